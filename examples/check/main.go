// Check tries tokens against Bedrock's control plane, its runtime and Mantle, and
// names the likely cause and the remedy of a refusal. It never prints a token. The
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
	region := flag.String("region", "", "AWS region; by default that of the environment or the profile")
	model := flag.String("model", "us.amazon.nova-lite-v1:0", "model or inference profile; us. is for regions of the US")
	endpoint := flag.String("endpoint", "", "in place of the region's three")
	flag.Parse()

	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(*region))
	if err == nil {
		_, err = p.Token(ctx) // so that missing credentials are reported once
	}
	switch {
	case errors.Is(err, bedrocktoken.ErrRegion):
		log.Fatal(err, "\n", noRegion)
	case errors.Is(err, bedrocktoken.ErrCredentials):
		log.Fatal(err, "\n", notSignedIn)
	case err != nil:
		log.Fatal(err)
	}
	if os.Getenv("AWS_BEARER_TOKEN_BEDROCK") != "" {
		fmt.Println("AWS_BEARER_TOKEN_BEDROCK is set: not used here, but some clients send it whatever the code says")
	}
	if !check(ctx, os.Stdout, p, nil, *model, *endpoint) {
		os.Exit(1)
	}
}

type diagnosis struct{ cause, remedy string }

func (d diagnosis) String() string {
	text := fmt.Sprintf("  likely cause: %s\n  remedy: %s", d.cause, d.remedy)
	return strings.ReplaceAll(text, "`", "")
}

// Rows of the README's troubleshooting table.
var (
	notSignedIn   = diagnosis{"not signed in", "`aws login` or `aws sso login`, and `AWS_PROFILE` or `WithProfile`"}
	unreachable   = diagnosis{"the region has no Bedrock, or the network no way to it", "check the region, the proxy and the network"}
	clockIsOff    = diagnosis{"the machine's clock is wrong", "set it by NTP"}
	expired       = diagnosis{"the credentials that signed the token have expired", "sign in again; in a service, ask a `Provider` for each request"}
	anotherRegion = diagnosis{"the token was signed for another region than the endpoint's", "`WithRegion` with the region of the endpoint"}
	noPermission  = diagnosis{"the identity lacks the permission `CallWithBearerToken`", "allow it in an IAM policy of that identity"}
)

// What is not in that table.
var (
	noRegion   = diagnosis{"no usable region in -region, the environment or the profile", "-region, `AWS_REGION` or the profile's region"}
	notBedrock = diagnosis{"the address is not Bedrock's, so no token is sent there", "Bedrock's https address; for a gateway, its host as an argument of `Transport`"}
	unknown    = diagnosis{"none that the answer would show", "see Troubleshooting in the README"}
)

// check calls three endpoints, writes what came of it, and reports whether all
// accepted the token.
func check(ctx context.Context, w io.Writer, p *bedrocktoken.Provider, base http.RoundTripper, model, endpoint string) bool {
	const (
		prompt    = `{"messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 1}}`
		byBedrock = "bedrock:CallWithBearerToken, which a condition on bedrock:bearerTokenType (here SHORT_TERM) may restrict"
		byMantle  = "bedrock-mantle:CallWithBearerToken, which a condition on bedrock-mantle:BearerTokenType (here SHORT_TERM) may restrict"
	)
	client := &http.Client{Transport: p.Transport(base)}
	accepted := true
	for _, call := range []struct{ name, method, base, path, body, permission string }{
		{"control plane", http.MethodGet, "https://bedrock." + p.Region() + ".amazonaws.com", "/foundation-models", "", byBedrock},
		{"runtime", http.MethodPost, "https://bedrock-runtime." + p.Region() + ".amazonaws.com", "/model/" + url.PathEscape(model) + "/converse", prompt, byBedrock},
		{"Mantle", http.MethodGet, "https://bedrock-mantle." + p.Region() + ".api.aws", "/v1/models", "", byMantle},
	} {
		request, err := http.NewRequestWithContext(ctx, call.method, cmp.Or(endpoint, call.base)+call.path, strings.NewReader(call.body))
		if err != nil {
			fmt.Fprintf(w, "%s: %v\n", call.name, err)
			accepted = false
			continue
		}
		request.Header.Set("Content-Type", "application/json")
		verdict, why, ok := try(client, request, p.Region())
		accepted = accepted && ok
		fmt.Fprintf(w, "%s %s: %s\n", call.name, request.URL.Host, anyToken.ReplaceAllString(verdict, "(the token)"))
		if why != (diagnosis{}) {
			fmt.Fprintln(w, why)
		}
		if why == noPermission {
			fmt.Fprintln(w, "  permission:", call.permission)
		}
	}
	return accepted
}

func try(client *http.Client, request *http.Request, region string) (verdict string, why diagnosis, accepted bool) {
	response, err := client.Do(request)
	switch {
	case errors.Is(err, bedrocktoken.ErrEndpoint):
		return fmt.Sprintf("not sent: %v", err), notBedrock, false
	case errors.Is(err, bedrocktoken.ErrRegion):
		return fmt.Sprintf("not sent: %v", err), anotherRegion, false
	case errors.Is(err, bedrocktoken.ErrCredentials):
		return fmt.Sprintf("not sent: %v", err), notSignedIn, false
	case err != nil:
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
	anyToken      = regexp.MustCompile(`bedrock-api-key-\S+`)
	notAuthorized = regexp.MustCompile(`not authorized to perform: ([\w-]+:\w+)`)
)

// diagnose begins with what can be known without trusting the words of the
// message, which are AWS's to change.
func diagnose(response *http.Response, message, region string) diagnosis {
	// SigV4 allows clocks to differ by some minutes.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && time.Since(date).Abs() > 5*time.Minute {
		return clockIsOff
	}
	// The transport sends no token to Bedrock in another region, but what is
	// behind a loopback address it cannot know.
	ownRegion := strings.Contains(response.Request.URL.Host, "."+region+".")
	message = strings.ToLower(message)
	switch {
	case strings.Contains(message, "callwithbearertoken"):
		return noPermission
	case strings.Contains(message, "make sure your api key is valid") && !ownRegion:
		return anotherRegion
	case strings.Contains(message, "api key"): // "Invalid API Key format", whose prefix is not what is wrong
		return noPermission
	case strings.Contains(message, "expired"):
		return expired
	case strings.Contains(message, "region") && !ownRegion:
		return anotherRegion
	}
	return unknown
}

// reason returns the message of Bedrock's error, in the form of AWS or of
// OpenAI, or the start of whatever else the body is.
func reason(response *http.Response) string {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err.Error()
	}
	var refusal struct {
		Message string // matches message too
		Error   struct{ Message string }
	}
	if json.Unmarshal(body, &refusal) == nil && cmp.Or(refusal.Message, refusal.Error.Message) != "" {
		return cmp.Or(refusal.Message, refusal.Error.Message)
	}
	return fmt.Sprintf("%.300q", body)
}
