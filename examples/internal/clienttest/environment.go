package clienttest

import (
	"encoding/pem"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/testenv"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// Isolate hides the home directory and every variable that a client might read
// until the test ends.
func Isolate(t *testing.T) {
	t.Helper()
	t.Cleanup(testenv.Isolate(t.TempDir(), "AWS_", "OPENAI_", "ANTHROPIC_", "XDG_"))
}

// hostileEnvironment sets all that a client might prefer to what it was given.
// Each value that could be sent contains the string that it returns.
func hostileEnvironment(t *testing.T) (stale string) {
	t.Helper()
	const nowhere = "https://stale.invalid"
	testenv.WriteConfig(t, `[profile stale]
region = eu-west-3
aws_access_key_id = AKIASTALEPROFILE
aws_secret_access_key = stale
endpoint_url = `+nowhere+`
`)
	testenv.Set(t, map[string]string{
		"AWS_BEARER_TOKEN_BEDROCK":          "stale",
		"AWS_ACCESS_KEY_ID":                 "AKIAstale",
		"AWS_SECRET_ACCESS_KEY":             "stale",
		"AWS_SESSION_TOKEN":                 "stale",
		"AWS_PROFILE":                       "stale",
		"AWS_REGION":                        "eu-west-3",
		"AWS_DEFAULT_REGION":                "eu-west-3",
		"AWS_AUTH_SCHEME_PREFERENCE":        "sigv4",
		"AWS_ENDPOINT_URL":                  nowhere,
		"AWS_ENDPOINT_URL_BEDROCK_RUNTIME":  nowhere,
		"AWS_ENDPOINT_URL_STS":              nowhere,
		"AWS_BEDROCK_BASE_URL":              nowhere,
		"OPENAI_API_KEY":                    "stale",
		"OPENAI_ADMIN_KEY":                  "stale",
		"OPENAI_BASE_URL":                   nowhere,
		"OPENAI_CUSTOM_HEADERS":             "Authorization: Bearer stale",
		"ANTHROPIC_API_KEY":                 "stale",
		"ANTHROPIC_AUTH_TOKEN":              "stale",
		"ANTHROPIC_PROFILE":                 "stale",
		"ANTHROPIC_AWS_API_KEY":             "stale",
		"ANTHROPIC_BASE_URL":                nowhere,
		"ANTHROPIC_BEDROCK_BASE_URL":        nowhere,
		"ANTHROPIC_BEDROCK_MANTLE_BASE_URL": nowhere,
		"ANTHROPIC_CUSTOM_HEADERS":          "Authorization: Bearer stale",
	})
	return "stale"
}

// A Program is an example's main function with arguments besides -region and
// -endpoint.
type Program struct {
	Main func()
	Args []string
	// Base is added to the server's URL to make -endpoint.
	Base string
	// Path is what the one request is made to.
	Path string
	// Provide makes the program find keys, by default in the environment.
	Provide func(t *testing.T, keys *Keys)
}

// Run runs the program and checks its request and its output.
func (p Program) Run(t *testing.T) {
	Isolate(t)
	keys := newKeys(time.Hour)
	server := fakebedrock.New(t, verify.Service{Region: Region, Secret: keys.Secret})
	if p.Provide != nil {
		p.Provide(t, keys)
	} else {
		creds := keys.current()
		t.Setenv("AWS_ACCESS_KEY_ID", creds.AccessKeyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", creds.SecretAccessKey)
		t.Setenv("AWS_SESSION_TOKEN", creds.SessionToken)
	}

	// The trust in the server's certificate, for the AWS SDK and for the others.
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate.Raw})
	if err := os.WriteFile(bundle, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	replace(t, &http.DefaultTransport, server.Client.Transport)

	replace(t, &os.Args, append([]string{"example", "-region", Region, "-endpoint", server.URL + p.Base}, p.Args...))
	replace(t, &flag.CommandLine, flag.NewFlagSet("example", flag.ExitOnError))
	stdout, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	replace(t, &os.Stdout, stdout)

	p.Main()

	answer, err := os.ReadFile(stdout.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(answer), fakebedrock.Answer+"\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	requests := server.Requests()
	if len(requests) != 1 {
		t.Errorf("%d requests were sent, want 1", len(requests))
	}
	for _, request := range requests {
		checkRequest(t, request, keys)
		if request.Path != p.Path {
			t.Errorf("a request was made to %s, want %s", request.Path, p.Path)
		}
	}
}

func replace[T any](t *testing.T, variable *T, value T) {
	saved := *variable
	t.Cleanup(func() { *variable = saved })
	*variable = value
}
