package fakebedrock

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

func TestAuthentication(t *testing.T) {
	server := New(t, verify.Service{
		Region: "us-east-1",
		Secret: func(accessKeyID, _ string) (string, error) {
			if accessKeyID != "AKIDKNOWN" {
				return "", errors.New("no such access key")
			}
			return "secret", nil
		},
	})
	token := func(region, accessKeyID, secret string) string {
		token, err := bedrocktoken.ProvideToken(t.Context(),
			bedrocktoken.WithRegion(region),
			bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(accessKeyID, secret, "")))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	for name, test := range map[string]struct {
		authorization string
		scheme        string
		err           error
	}{
		"valid":          {token("us-east-1", "AKIDKNOWN", "secret"), Bearer, nil},
		"unknown key":    {token("us-east-1", "AKIDOTHER", "secret"), Bearer, verify.ErrCredentials},
		"wrong secret":   {token("us-east-1", "AKIDKNOWN", "other"), Bearer, verify.ErrSignature},
		"another region": {token("eu-west-1", "AKIDKNOWN", "secret"), Bearer, verify.ErrRegion},
		"not a token":    {"Bearer sk-123", Bearer, verify.ErrMalformed},
		"SigV4":          {"AWS4-HMAC-SHA256 Credential=AKIDKNOWN/20260101/us-east-1/bedrock/aws4_request", SigV4, ErrNoBearerToken},
		"nothing":        {"", None, ErrNoBearerToken},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := do(t, server, http.MethodGet, "/foundation-models", test.authorization, "", "")
			if test.err == nil {
				if response.StatusCode != http.StatusOK || !strings.Contains(body, `"modelSummaries"`) {
					t.Errorf("answered %s: %s", response.Status, body)
				}
			} else if response.StatusCode != http.StatusForbidden ||
				response.Header.Get("X-Amzn-ErrorType") != "AccessDeniedException" ||
				!strings.HasPrefix(body, `{"message":"Authentication failed: `) {
				t.Errorf("answered %s, error type %q: %s", response.Status, response.Header.Get("X-Amzn-ErrorType"), body)
			}

			requests := server.Requests()
			request := requests[len(requests)-1]
			if request.Scheme != test.scheme || !errors.Is(request.Err, test.err) {
				t.Errorf("recorded scheme %q and error %v, want %q and %v", request.Scheme, request.Err, test.scheme, test.err)
			}
			if test.err == nil && request.Token.AccessKeyID != "AKIDKNOWN" {
				t.Errorf("recorded access key ID %q", request.Token.AccessKeyID)
			}
			if request.Header.Get("Authorization") != "" {
				t.Error("the record has an Authorization header")
			}
		})
	}

	authorization := token("us-east-1", "AKIDKNOWN", "secret")
	_, key, _ := strings.Cut(authorization, " ")
	for name, test := range map[string]struct {
		apiKey string
		err    error
	}{
		"X-Api-Key with the token":      {key, nil},
		"X-Api-Key with something else": {"sk-123", ErrAnotherKey},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := do(t, server, http.MethodGet, "/foundation-models", authorization, test.apiKey, "")
			if (response.StatusCode == http.StatusOK) != (test.err == nil) {
				t.Errorf("answered %s: %s", response.Status, body)
			}
			requests := server.Requests()
			request := requests[len(requests)-1]
			if !errors.Is(request.Err, test.err) {
				t.Errorf("recorded error %v, want %v", request.Err, test.err)
			}
			if request.Header.Get("X-Api-Key") != "" {
				t.Error("the record has an X-Api-Key header")
			}
		})
	}

	for path, status := range map[string]int{
		"/model/m/converse":      http.StatusForbidden,
		"/openai/v1/responses":   http.StatusForbidden, // of the runtime
		"/v1/responses":          http.StatusUnauthorized,
		"/anthropic/v1/messages": http.StatusUnauthorized,
	} {
		t.Run("refusal at "+path, func(t *testing.T) {
			response, body := do(t, server, http.MethodPost, path, "Bearer sk-123", "", "{}")
			if response.StatusCode != status {
				t.Errorf("answered %s, want %d: %s", response.Status, status, body)
			}
		})
	}

	for name, test := range map[string]struct {
		path, body string
		status     int
		kind       string
	}{
		"no such operation": {"/model/m/nothing", "{}", http.StatusNotFound, "UnknownOperationException"},
		"no messages":       {"/model/m/converse", "{}", http.StatusBadRequest, "ValidationException"},
		"no JSON":           {"/v1/chat/completions", "", http.StatusBadRequest, "ValidationException"},
		"no model":          {"/openai/v1/responses", `{"input":"Hello"}`, http.StatusBadRequest, "ValidationException"},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := do(t, server, http.MethodPost, test.path, authorization, "", test.body)
			if kind := response.Header.Get("X-Amzn-ErrorType"); response.StatusCode != test.status || kind != test.kind {
				t.Errorf("answered %s, error type %q: %s", response.Status, kind, body)
			}
		})
	}
}

func do(t *testing.T, server *Server, method, path, authorization, apiKey, body string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	if apiKey != "" {
		request.Header.Set("X-Api-Key", apiKey)
	}
	response, err := server.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}
