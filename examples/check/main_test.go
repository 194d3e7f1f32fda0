package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const region = "us-east-1"

func newToken(t *testing.T) string {
	t.Helper()
	token, err := bedrocktoken.ProvideToken(t.Context(),
		bedrocktoken.WithRegion(region),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIAKNOWN", "secret", "")))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestCheck(t *testing.T) {
	known := func(string, string) (string, error) { return "secret", nil }
	refuse := func(message string) func(string, string) (string, error) {
		return func(string, string) (string, error) { return "", errors.New(message) }
	}
	tests := map[string]struct {
		service verify.Service
		want    diagnosis
	}{
		"accepted":         {verify.Service{Secret: known}, diagnosis{}},
		"no permission":    {verify.Service{Secret: refuse("User: arn:aws:iam::123456789012:user/me is not authorized to perform: bedrock:CallWithBearerToken on resource: *")}, noPermission},
		"invalid API key":  {verify.Service{Secret: refuse("Invalid API Key format: Must start with pre-defined prefix")}, noPermission},
		"another region":   {verify.Service{Secret: known, Region: "eu-west-1"}, anotherRegion},
		"expired":          {verify.Service{Secret: refuse("The security token included in the request is expired")}, expired},
		"clock ahead":      {verify.Service{Secret: known, ClockAhead: -time.Hour}, clockIsOff},
		"clock far behind": {verify.Service{Secret: known, ClockAhead: 13 * time.Hour}, clockIsOff},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.service.Region == "" {
				test.service.Region = region
			}
			server := fakebedrock.New(t, test.service)
			var output strings.Builder
			token := newToken(t)
			accepted := check(t.Context(), &output, server.Client, token, region, "model", server.URL)
			if accepted != (test.want == diagnosis{}) {
				t.Errorf("accepted is %v", accepted)
			}
			lines := strings.Split(strings.TrimSpace(output.String()), "\n")
			if accepted {
				if len(lines) != 2 || !strings.HasSuffix(lines[0], ": accepted") || !strings.HasSuffix(lines[1], ": accepted") {
					t.Errorf("output:\n%s", &output)
				}
			} else {
				for i, start := range []string{"control plane", "  likely cause: " + test.want.cause, "  remedy: ", "runtime"} {
					if len(lines) != 6 || !strings.HasPrefix(lines[i], start) {
						t.Fatalf("line %d does not begin with %q:\n%s", i, start, &output)
					}
				}
				if !strings.Contains(output.String(), test.want.String()) {
					t.Errorf("%v is not in:\n%s", test.want, &output)
				}
			}
			if strings.Contains(output.String(), token) {
				t.Error("the token is printed")
			}
			if n := len(server.Requests()); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
		})
	}
}

// The README has a row for each diagnosis.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []diagnosis{notSignedIn, unreachable, clockIsOff, expired, anotherRegion, noPermission} {
		if row := " | " + d.cause + " | " + d.remedy + " |"; !strings.Contains(string(readme), row) {
			t.Errorf("no row ends in %q", row)
		}
	}
}

// What is said of answers that are no refusals of the token, or not by Bedrock.
func TestVerdict(t *testing.T) {
	token := newToken(t)
	tests := map[string]struct {
		status   int
		body     string
		accepted bool
		says     string
	}{
		"no permission for the action": {403, `{"Message": "User: x is not authorized to perform: bedrock:ListFoundationModels because no policy allows it"}`, true, "accepted, but the identity lacks the permission bedrock:ListFoundationModels"},
		"no such model":                {404, `{"message": "Could not resolve the foundation model"}`, true, "accepted, but the call failed: 404 Not Found Could not resolve the foundation model"},
		"out of order":                 {503, `<html>`, false, `no verdict: 503 Service Unavailable "<html>"`},
		"refused by a proxy":           {403, `<html>`, false, "likely cause: none that the answer would show"},
		"token echoed":                 {403, `{"message": "Invalid: ` + token + `"}`, false, "Invalid: (the token)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				w.Write([]byte(test.body))
			}))
			defer server.Close()
			var output strings.Builder
			if accepted := check(t.Context(), &output, server.Client(), token, region, "model", server.URL); accepted != test.accepted {
				t.Errorf("accepted is %v", accepted)
			}
			if !strings.Contains(output.String(), test.says) || strings.Contains(output.String(), token) {
				t.Errorf("%q is not in, or the token is:\n%s", test.says, strings.ReplaceAll(output.String(), token, "(THE TOKEN)"))
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		server := httptest.NewTLSServer(nil)
		server.Close()
		var output strings.Builder
		if check(t.Context(), &output, server.Client(), token, region, "model", server.URL) || strings.Count(output.String(), "cannot be reached") != 2 || strings.Count(output.String(), unreachable.String()) != 2 {
			t.Errorf("output:\n%s", &output)
		}
	})
	t.Run("no URL", func(t *testing.T) {
		var output strings.Builder
		if check(t.Context(), &output, http.DefaultClient, token, region, "model", "https://[") || output.Len() == 0 {
			t.Errorf("output:\n%s", &output)
		}
	})
}

// The host of an endpoint shows its region, whatever the message.
func TestDiagnoseHost(t *testing.T) {
	for host, want := range map[string]diagnosis{
		"bedrock.eu-west-1.amazonaws.com":         anotherRegion,
		"bedrock-runtime.eu-west-1.amazonaws.com": anotherRegion,
		"bedrock-runtime.us-east-1.amazonaws.com": expired,
		"localhost": expired,
	} {
		response := &http.Response{Request: &http.Request{URL: &url.URL{Scheme: "https", Host: host}}}
		if got := diagnose(response, "Signature expired", region); got != want {
			t.Errorf("%s: %q, want %q", host, got.cause, want.cause)
		}
	}
}
