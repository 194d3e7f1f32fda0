// Check tries a token against Bedrock's control plane and its runtime, and names
// the likely cause and the remedy of a refusal. It never prints the token. The
// call to the runtime asks the model for a single token of output.
//
//	go run ./check -region us-east-1
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
)

func main() {
	region := flag.String("region", cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"), "AWS region")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "in place of the region's control plane and runtime")
	flag.Parse()

	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	token, err := bedrocktoken.ProvideToken(ctx, bedrocktoken.WithRegion(*region))
	if errors.Is(err, bedrocktoken.ErrCredentials) {
		log.Fatal(err, "\n", notSignedIn)
	}
	if err != nil {
		log.Fatal(err)
	}
	if os.Getenv("AWS_BEARER_TOKEN_BEDROCK") != "" {
		fmt.Println("AWS_BEARER_TOKEN_BEDROCK is set: not used here, but some clients send it whatever the code says")
	}
	if !check(ctx, os.Stdout, http.DefaultClient, token, *region, *model, *endpoint) {
		os.Exit(1)
	}
}

// A diagnosis is a row of the README's troubleshooting table.
type diagnosis struct{ cause, remedy string }

func (d diagnosis) String() string {
	return fmt.Sprintf("  likely cause: %s\n  remedy: %s", d.cause, strings.ReplaceAll(d.remedy, "`", ""))
}

var (
	notSignedIn   = diagnosis{"not signed in", "`aws login` or `aws sso login`, and `AWS_PROFILE` or `WithProfile`"}
	unreachable   = diagnosis{"the region has no Bedrock, or the network no way to it", "check the region, the proxy and the network"}
	clockIsOff    = diagnosis{"the machine's clock is off", "set it by NTP"}
	expired       = diagnosis{"the credentials that signed the token have expired", "sign in again; in a service, ask a `Provider` for each request"}
	anotherRegion = diagnosis{"the token was signed for another region than the endpoint's", "`WithRegion` with the region of the endpoint"}
	noPermission  = diagnosis{"the identity lacks the permission `CallWithBearerToken`", "allow it in an IAM policy of that identity"}
)

// check calls both endpoints, writes what came of it, and returns whether both
// accepted the token.
func check(ctx context.Context, w io.Writer, client *http.Client, token, region, model, endpoint string) bool {
	const prompt = `{"messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 1}}`
	accepted := true
	for _, call := range []struct{ name, method, base, path, body string }{
		{"control plane", http.MethodGet, "https://bedrock." + region + ".amazonaws.com", "/foundation-models", ""},
		{"runtime", http.MethodPost, "https://bedrock-runtime." + region + ".amazonaws.com", "/model/" + url.PathEscape(model) + "/converse", prompt},
	} {
		request, err := http.NewRequestWithContext(ctx, call.method, cmp.Or(endpoint, call.base)+call.path, strings.NewReader(call.body))
		if err != nil {
			fmt.Fprintf(w, "%s: %v\n", call.name, err)
			accepted = false
			continue
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		verdict, why, ok := try(client, request, region)
		accepted = accepted && ok
		fmt.Fprintf(w, "%s %s: %s\n", call.name, request.URL.Host, strings.ReplaceAll(verdict, token, "(the token)"))
		if why != (diagnosis{}) {
			fmt.Fprintln(w, why)
		}
	}
	return accepted
}

func try(client *http.Client, request *http.Request, region string) (verdict string, why diagnosis, accepted bool) {
	response, err := client.Do(request)
	if err != nil {
		return fmt.Sprintf("cannot be reached: %v", err), unreachable, false
	}
	defer response.Body.Close()
	message := reason(response)
	action := notAuthorized.FindStringSubmatch(message)
	switch status := response.StatusCode; {
	case status < 300:
		return "accepted", diagnosis{}, true
	case status >= 500:
		return fmt.Sprintf("no verdict: %s %s", response.Status, message), diagnosis{}, false
	case status != http.StatusForbidden && status != http.StatusUnauthorized:
		return fmt.Sprintf("accepted, but the call failed: %s %s", response.Status, message), diagnosis{}, true
	case action != nil && !strings.HasSuffix(action[1], ":CallWithBearerToken"):
		return fmt.Sprintf("accepted, but the identity lacks the permission %s", action[1]), diagnosis{}, true
	}
	return fmt.Sprintf("refused: %s %s", response.Status, message), diagnose(response, message, region), false
}

var (
	notAuthorized  = regexp.MustCompile(`not authorized to perform: ([\w-]+:\w+)`)
	endpointRegion = regexp.MustCompile(`^bedrock(?:-runtime)?\.([a-z0-9-]+)\.amazonaws\.com$`)
)

// diagnose begins with what can be known without trusting the words of the
// message, which are AWS's to change.
func diagnose(response *http.Response, message, region string) diagnosis {
	// SigV4 allows clocks to differ by some minutes.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && time.Since(date).Abs() > 5*time.Minute {
		return clockIsOff
	}
	if host := endpointRegion.FindStringSubmatch(response.Request.URL.Hostname()); host != nil && host[1] != region {
		return anotherRegion
	}
	message = strings.ToLower(message)
	switch {
	case strings.Contains(message, "callwithbearertoken"), strings.Contains(message, "api key"):
		return noPermission
	case strings.Contains(message, "expired"):
		return expired
	case strings.Contains(message, "region"):
		return anotherRegion
	}
	return diagnosis{"none that the answer would show", "see Troubleshooting in the README"}
}

// reason returns the message of Bedrock's error, or the start of whatever else
// the body is.
func reason(response *http.Response) string {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err.Error()
	}
	var refusal struct {
		Message string `json:"message"` // matches Message too
	}
	if json.Unmarshal(body, &refusal) == nil && refusal.Message != "" {
		return refusal.Message
	}
	return fmt.Sprintf("%.300q", body)
}
