package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
)

// A cause is why an endpoint may not accept a token, and what to do about it.
type cause struct{ likely, remedy string }

// The indexes of causes.
const (
	unknown = iota
	unreachable
	foreignCertificate
	wrongClock
	noPermission
	denied
	expired
	unknownKey
	wrongSecret
	outOfOrder
	notBedrock
)

// docs/troubleshooting.md has these texts too, and a test compares them.
var causes = [...]cause{
	unknown:            {"the answer does not say", "try again; if it stays, ask AWS Support with the answer"},
	unreachable:        {"Bedrock has no such endpoint in the region, or the network does not let the request through", "check the region, HTTPS_PROXY and the network"},
	foreignCertificate: {"a proxy on the way shows a certificate of its own", "add its certificate authority to those that the system trusts"},
	wrongClock:         {"the clock of this machine is wrong", "set it by NTP"},
	noPermission: {"the identity lacks the permission bedrock:CallWithBearerToken (for Mantle, bedrock-mantle:CallWithBearerToken)",
		"allow it in an IAM policy of the identity; a condition on the type of the token must admit SHORT_TERM"},
	denied: {"a policy denies the identity CallWithBearerToken", "find the Deny in the identity's policies, its permissions boundary or the organization's"},
	expired: {"the credentials that signed the token have expired or were revoked",
		"sign in again; in a program, ask a Provider for a token for each request"},
	unknownKey: {"AWS does not know the access key: it was deleted or deactivated, or its session token is missing or old",
		"sign in again, or set all values of the same credentials, AWS_SESSION_TOKEN included"},
	wrongSecret: {"the secret access key does not belong to the access key ID", "set both again, from the same source"},
	outOfOrder:  {"the endpoint is out of order or overloaded", "try again later"},
	notBedrock:  {"a proxy on the way answered, not Bedrock", "let it pass requests to this host"},
}

// A call tries an endpoint. None needs a model, and none costs anything.
type call struct{ name, method, url, body string }

func calls(region string) []call {
	// AWS looks at the token before it looks for the model, which does not exist.
	const prompt = `{"messages": [{"role": "user", "content": [{"text": "Hello"}]}], "inferenceConfig": {"maxTokens": 1}}`
	return []call{
		{"control plane", http.MethodGet, "https://bedrock." + region + ".amazonaws.com/foundation-models", ""},
		{"runtime", http.MethodPost, "https://bedrock-runtime." + region + ".amazonaws.com/model/bedrock-token-check/converse", prompt},
		{"Mantle", http.MethodGet, "https://bedrock-mantle." + region + ".api.aws/v1/models", ""},
	}
}

// check tries three endpoints with tokens of the provider, of which token is one,
// writes what came of it, and reports whether all accepted them. The error is that
// of writing.
func check(ctx context.Context, w io.Writer, provider *bedrocktoken.Provider, token bearer.Token, base http.RoundTripper) (bool, error) {
	out := bufio.NewWriter(w) // which keeps an error until Flush
	fmt.Fprintf(out, "The token is for %s, signed with the access key %s, and expires at %s.\n",
		provider.Region(), keyIDIn(token.Value), token.Expires.UTC().Format(time.RFC3339))
	if os.Getenv("AWS_BEARER_TOKEN_BEDROCK") != "" {
		fmt.Fprintln(out, "AWS_BEARER_TOKEN_BEDROCK is set. It is not used here, but the AWS SDKs and other clients send it whatever the code says.")
	}
	client := &http.Client{
		Transport: provider.Transport(base),
		Timeout:   20 * time.Second, // so that all are tried
	}
	allAccepted := true
	for _, call := range calls(provider.Region()) {
		out.Flush() // for who waits
		accepted, verdict, why := try(ctx, client, call)
		allAccepted = allAccepted && accepted
		host, _, _ := strings.Cut(strings.TrimPrefix(call.url, "https://"), "/")
		// An answer may quote the token.
		fmt.Fprintf(out, "%s, %s: %s\n", call.name, host, anyToken.ReplaceAllString(verdict, "(the token)"))
		if !accepted {
			fmt.Fprintf(out, "  likely cause: %s\n  remedy: %s\n", why.likely, why.remedy)
		}
	}
	return allAccepted, out.Flush()
}

// keyIDIn returns the access key ID that stands in a token.
func keyIDIn(token string) string {
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "bedrock-api-key-"))
	if err != nil {
		return ""
	}
	target, err := url.Parse("https://" + string(decoded))
	if err != nil {
		return ""
	}
	id, _, _ := strings.Cut(target.Query().Get("X-Amz-Credential"), "/")
	return id
}

var (
	anyToken      = regexp.MustCompile(`bedrock-api-key-[\w+/=%.-]+`)
	notAuthorized = regexp.MustCompile(`not authorized to perform: ([\w-]+:\w+)`)
)

func try(ctx context.Context, client *http.Client, call call) (accepted bool, verdict string, why cause) {
	request, err := http.NewRequestWithContext(ctx, call.method, call.url, strings.NewReader(call.body))
	if err != nil {
		return false, err.Error(), causes[unreachable]
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		text, _, _ := strings.Cut(explain.Error(errors.Unwrap(err), ""), "\n")
		return false, "no answer: " + text, unanswered(err)
	}
	defer response.Body.Close()
	message, byBedrock := reason(response)
	said := fmt.Sprintf("%d %s %.300q", response.StatusCode, http.StatusText(response.StatusCode), message)
	lacks := notAuthorized.FindStringSubmatch(message)
	switch status := response.StatusCode; {
	case status < http.StatusMultipleChoices:
		return true, "accepted", cause{}
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return false, "no verdict: " + said, causes[outOfOrder]
	case !byBedrock:
		return false, "no verdict: " + said, causes[notBedrock]
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && (lacks == nil || strings.HasSuffix(lacks[1], ":CallWithBearerToken")):
		return false, "refused: " + said, refused(response, message)
	case call.body != "": // the model that does not exist has been looked for
		return true, "accepted", cause{}
	case lacks != nil:
		return true, "accepted, but the identity lacks the permission " + lacks[1], cause{}
	}
	return true, "accepted, but the call failed: " + said, cause{}
}

// unanswered returns the cause of an error of http.Client.
func unanswered(err error) cause {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired: // or not yet valid
		return causes[wrongClock]
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return causes[foreignCertificate]
	case errors.Is(err, bedrocktoken.ErrCredentials):
		return causes[expired]
	}
	return causes[unreachable]
}

// refused returns the cause of a refusal of the token. It begins with what can be
// known without the words of the message, which are AWS's to change.
func refused(response *http.Response, message string) cause {
	// SigV4 lets clocks differ by 5 minutes.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && time.Since(date).Abs() > 5*time.Minute {
		return causes[wrongClock]
	}
	message = strings.ToLower(message)
	for _, rule := range []struct {
		part  string
		cause int
	}{
		{"explicit deny", denied},
		{"callwithbearertoken", noPermission},
		{"api key", noPermission}, // "Invalid API Key format", whose prefix is not what is wrong
		{"not yet", wrongClock},
		{"expired", expired},
		{"signature", wrongSecret},
		{"security token", unknownKey},
		{"bearer token", unknownKey},
	} {
		if strings.Contains(message, rule.part) {
			return causes[rule.cause]
		}
	}
	return causes[unknown]
}

// reason returns the message of an error, and whether it has the form of Bedrock's,
// which is that of AWS or of OpenAI. Of anything else it returns the body.
func reason(response *http.Response) (message string, byBedrock bool) {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err.Error(), false
	}
	var refusal struct {
		Message string // matches message too
		Error   struct{ Message string }
	}
	if json.Unmarshal(body, &refusal) == nil && cmp.Or(refusal.Message, refusal.Error.Message) != "" {
		return cmp.Or(refusal.Message, refusal.Error.Message), true
	}
	return string(body), false
}
