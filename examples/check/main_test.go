package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const region = "us-east-1"

func TestMain(m *testing.M) { clienttest.Main(m, main) }

var known = verify.Service{Region: region, Secret: func(accessKeyID, _ string) (string, error) {
	if accessKeyID != "AKIAKNOWN" {
		return "", errors.New("no such access key")
	}
	return "secret", nil
}}

var keys = credentials.NewStaticCredentialsProvider("AKIAKNOWN", "secret", "")

func newProvider(t *testing.T, source aws.CredentialsProvider) *bedrocktoken.Provider {
	t.Helper()
	p, err := bedrocktoken.NewProvider(t.Context(),
		bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheck(t *testing.T) {
	refuse := func(message string) verify.Service {
		return verify.Service{Region: region, Secret: func(string, string) (string, error) { return "", errors.New(message) }}
	}
	tests := map[string]struct {
		service verify.Service
		want    diagnosis
	}{
		"no permission":    {refuse("User: arn:aws:iam::123456789012:user/me is not authorized to perform: bedrock:CallWithBearerToken on resource: *"), noPermission},
		"invalid format":   {refuse("Invalid API Key format: Must start with pre-defined prefix"), noPermission},
		"invalid API key":  {refuse("invalid API key"), noPermission},
		"another region":   {verify.Service{Region: "eu-west-1", Secret: known.Secret}, anotherRegion},
		"no valid API key": {refuse("Authentication failed: Please make sure your API Key is valid."), anotherRegion},
		"expired":          {refuse("The security token included in the request is expired"), expired},
		"clock ahead":      {verify.Service{Region: region, Secret: known.Secret, ClockAhead: -time.Hour}, clockIsOff},
		"clock far behind": {verify.Service{Region: region, Secret: known.Secret, ClockAhead: 13 * time.Hour}, clockIsOff},
		"anything else":    {refuse("no"), unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := fakebedrock.New(t, test.service)
			var output strings.Builder
			if check(t.Context(), &output, newProvider(t, keys), server.Client.Transport, "model", server.URL) {
				t.Error("accepted")
			}
			byBedrock := "  permission: bedrock:CallWithBearerToken, which a condition on bedrock:bearerTokenType "
			byMantle := "  permission: bedrock-mantle:CallWithBearerToken, which a condition on bedrock-mantle:BearerTokenType "
			var want []string
			for _, call := range []struct{ name, permission string }{
				{"control plane", byBedrock}, {"runtime", byBedrock}, {"Mantle", byMantle},
			} {
				want = append(want, call.name+" 127.0.0.1:")
				want = append(want, strings.Split(test.want.String(), "\n")...)
				if test.want == noPermission {
					want = append(want, call.permission)
				}
			}
			checkLines(t, output.String(), want)
			if n := len(server.Requests()); n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
		})
	}
}

// checkLines checks how each line of output begins, and that no token is in it.
func checkLines(t *testing.T, output string, starts []string) {
	t.Helper()
	if strings.Contains(output, "bedrock-api-key-") {
		t.Fatal("a token is printed")
	}
	lines := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
	if len(lines) != len(starts) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(starts), output)
	}
	for i, start := range starts {
		if !strings.HasPrefix(lines[i], start) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i], start)
		}
	}
}

func TestProgram(t *testing.T) {
	hosts := []string{"bedrock.us-east-1.amazonaws.com", "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-mantle.us-east-1.api.aws"}
	run := func(t *testing.T, config string, args ...string) (output string, server *fakebedrock.Server, err error) {
		clienttest.Isolate(t)
		awstest.WriteConfig(t, "[default]\n"+config)
		server = fakebedrock.New(t, known)
		output, err = clienttest.Exec(t, server, hosts, args...)
		return output, server, err
	}
	const credentials = "aws_access_key_id = AKIAKNOWN\naws_secret_access_key = secret\n"

	t.Run("accepted", func(t *testing.T) {
		output, server, err := run(t, credentials+"region = us-east-1")
		if err != nil {
			t.Error(err)
		}
		checkLines(t, output, []string{
			"control plane bedrock.us-east-1.amazonaws.com: accepted",
			"runtime bedrock-runtime.us-east-1.amazonaws.com: accepted",
			"Mantle bedrock-mantle.us-east-1.api.aws: accepted",
		})
		var paths []string
		for _, request := range server.Requests() {
			paths = append(paths, request.Method+" "+request.Path)
		}
		const want = "GET /foundation-models, POST /model/us.amazon.nova-lite-v1:0/converse, GET /v1/models"
		if got := strings.Join(paths, ", "); got != want {
			t.Errorf("requests %s, want %s", got, want)
		}
	})
	t.Run("refused", func(t *testing.T) {
		output, _, err := run(t, "aws_access_key_id = AKIAOTHER\naws_secret_access_key = secret\nregion = us-east-1")
		if err == nil || strings.Count(output, ": refused: 403 ") != 2 || strings.Count(output, ": refused: 401 ") != 1 {
			t.Errorf("error %v, output:\n%s", err, output)
		}
	})
	for name, test := range map[string]struct {
		config, flag, message string
		remedy                diagnosis
	}{
		"no region":         {credentials, "", bedrocktoken.ErrRegion.Error(), noRegion},
		"impossible region": {credentials, "US East", bedrocktoken.ErrRegion.Error(), noRegion},
		"no credentials":    {"region = us-east-1", "", bedrocktoken.ErrCredentials.Error(), notSignedIn},
	} {
		t.Run(name, func(t *testing.T) {
			output, _, err := run(t, test.config, "-region", test.flag)
			if err == nil || output != "" || !strings.Contains(err.Error(), test.message) || !strings.Contains(err.Error(), test.remedy.String()) {
				t.Errorf("error %v, output %q", err, output)
			}
		})
	}
}

// Requests that the transport refuses to send.
func TestNotSent(t *testing.T) {
	nowhere := awstest.RoundTripFunc(func(*http.Request) (*http.Response, error) {
		t.Error("a request was sent")
		return nil, io.EOF
	})
	failing := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("signed out")
	})
	for endpoint, test := range map[string]struct {
		source aws.CredentialsProvider
		says   error
		want   diagnosis
	}{
		"https://gateway.example.com":                     {keys, bedrocktoken.ErrEndpoint, notBedrock},
		"https://bedrock-runtime.eu-west-1.amazonaws.com": {keys, bedrocktoken.ErrRegion, anotherRegion},
		"https://bedrock-runtime.us-east-1.amazonaws.com": {failing, bedrocktoken.ErrCredentials, notSignedIn},
	} {
		var output strings.Builder
		if check(t.Context(), &output, newProvider(t, test.source), nowhere, "model", endpoint) ||
			strings.Count(output.String(), ": not sent: ") != 3 ||
			strings.Count(output.String(), test.says.Error()) != 3 ||
			strings.Count(output.String(), test.want.String()) != 3 {
			t.Errorf("%s:\n%s", endpoint, &output)
		}
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
	const echo = "(the server puts the token here)"
	tests := map[string]struct {
		status   int
		body     string
		accepted bool
		says     string
	}{
		"no permission for the action": {403, `{"Message": "User: x is not authorized to perform: bedrock:ListFoundationModels because no policy allows it"}`, true, "accepted, but the identity lacks the permission bedrock:ListFoundationModels"},
		"nor on Mantle":                {403, `{"error": {"message": "User: x is not authorized to perform: bedrock-mantle:ListModels"}}`, true, "accepted, but the identity lacks the permission bedrock-mantle:ListModels"},
		"no such model":                {404, `{"message": "Could not resolve the foundation model"}`, true, "accepted, but the call failed: 404 Not Found Could not resolve the foundation model"},
		"out of order":                 {503, `<html>`, false, `no verdict: 503 Service Unavailable "<html>"`},
		"refused by a proxy":           {403, `<html>`, false, "likely cause: none that the answer would show"},
		"refused as OpenAI does":       {401, `{"error": {"message": "Invalid API Key format", "code": "invalid_api_key"}}`, false, "refused: 401 Unauthorized Invalid API Key format\n" + noPermission.String()},
		"token echoed":                 {403, `{"message": "Invalid: ` + echo + `"}`, false, "Invalid: (the token)"},
		"token echoed in HTML":         {403, `<b>` + echo + `</b>`, false, `"<b>(the token)`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				w.WriteHeader(test.status)
				io.WriteString(w, strings.ReplaceAll(test.body, echo, token))
			}))
			defer server.Close()
			var output strings.Builder
			if accepted := check(t.Context(), &output, newProvider(t, keys), server.Client().Transport, "model", server.URL); accepted != test.accepted {
				t.Errorf("accepted is %v", accepted)
			}
			if strings.Contains(output.String(), "bedrock-api-key-") {
				t.Error("a token is printed")
			} else if strings.Count(output.String(), test.says) != 3 {
				t.Errorf("%q is not in:\n%s", test.says, &output)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		server := httptest.NewTLSServer(nil)
		server.Close()
		var output strings.Builder
		if check(t.Context(), &output, newProvider(t, keys), nil, "model", server.URL) ||
			strings.Count(output.String(), "cannot be reached") != 3 || strings.Count(output.String(), unreachable.String()) != 3 {
			t.Errorf("output:\n%s", &output)
		}
	})
	t.Run("no URL", func(t *testing.T) {
		var output strings.Builder
		if check(t.Context(), &output, newProvider(t, keys), nil, "model", "https://[") || output.Len() == 0 {
			t.Errorf("output:\n%s", &output)
		}
	})
}

// An endpoint whose name has the token's region is not in another one, whatever
// the message.
func TestDiagnoseHost(t *testing.T) {
	const key, place = "Authentication failed: Please make sure your API Key is valid", "Not in this region"
	for _, test := range []struct {
		host, message string
		want          diagnosis
	}{
		{"localhost:8484", key, anotherRegion},
		{"localhost:8484", place, anotherRegion},
		{"bedrock-mantle.us-east-1.api.aws", key, noPermission},
		{"bedrock-mantle.us-east-1.api.aws", place, unknown},
	} {
		response := &http.Response{Request: &http.Request{URL: &url.URL{Scheme: "https", Host: test.host}}}
		if got := diagnose(response, test.message, region); got != test.want {
			t.Errorf("%s, %q: %q, want %q", test.host, test.message, got.cause, test.want.cause)
		}
	}
}
