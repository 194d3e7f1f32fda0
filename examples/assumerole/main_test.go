package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
)

const role = "arn:aws:iam::123456789012:role/bedrock"

func TestMain(m *testing.M) { clienttest.Main(m, main) }

func TestClient(t *testing.T) {
	clienttest.Run(t, map[string]clienttest.Client{"converse": {
		Provider: func(t *testing.T, keys *clienttest.Keys) *bedrocktoken.Provider {
			server := httptest.NewServer(stsServer{t, keys})
			t.Cleanup(server.Close)
			p, err := newProvider(t.Context(), aws.Config{
				Region:       clienttest.Region,
				Credentials:  credentials.NewStaticCredentialsProvider("AKIABASE", "base secret", ""),
				BaseEndpoint: &server.URL,
			}, role)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		New: func(t *testing.T, s clienttest.Setup) clienttest.Call {
			cfg, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(s.HTTPClient))
			if err != nil {
				t.Fatal(err)
			}
			client := newClient(cfg, s.Provider, s.Endpoint)
			if got := client.Options().Region; got != clienttest.Region {
				t.Errorf("the client's region is %q, want the Provider's", got)
			}
			return func(ctx context.Context, w io.Writer) error {
				answer, err := converse(ctx, client, "us.amazon.nova-lite-v1:0")
				io.WriteString(w, answer)
				return err
			}
		},
		// The source's error goes over the wire.
		IsSourceError: func(err error) bool {
			var apiError smithy.APIError
			return errors.As(err, &apiError) && apiError.ErrorCode() == "AccessDenied" &&
				strings.Contains(apiError.ErrorMessage(), clienttest.ErrSource.Error())
		},
	}})
}

func TestProgram(t *testing.T) {
	clienttest.Program{
		Args: []string{"-role", role},
		Path: "/model/us.amazon.nova-lite-v1:0/converse",
		Provide: func(t *testing.T, keys *clienttest.Keys) {
			server := httptest.NewServer(stsServer{t, keys})
			t.Cleanup(server.Close)
			t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "base secret")
		},
	}.Run(t)
}

// An stsServer gives keys to whoever asks for the role with the base credentials.
type stsServer struct {
	t    *testing.T
	keys *clienttest.Keys
}

func (s stsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if got := r.FormValue("Action"); got != "AssumeRole" {
		s.t.Errorf("STS was asked to %q", got)
	}
	if got := r.FormValue("RoleArn"); got != role {
		s.t.Errorf("role %q was asked for, want %q", got, role)
	}
	if got := r.FormValue("RoleSessionName"); got == "" {
		s.t.Error("the role's session has no name")
	}
	if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIABASE/") {
		s.t.Error("the request to STS is not signed with the base credentials")
	}

	creds, err := s.keys.Retrieve(r.Context())
	w.Header().Set("Content-Type", "text/xml")
	encoder := xml.NewEncoder(w)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		encoder.Encode(errorResponse{Error: stsError{Type: "Sender", Code: "AccessDenied", Message: err.Error()}})
		return
	}
	encoder.Encode(assumeRoleResponse{Credentials: stsCredentials{
		creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken, creds.Expires.UTC().Format(time.RFC3339Nano),
	}})
}

type (
	assumeRoleResponse struct {
		XMLName     xml.Name       `xml:"AssumeRoleResponse"`
		Credentials stsCredentials `xml:"AssumeRoleResult>Credentials"`
	}
	stsCredentials struct {
		AccessKeyId, SecretAccessKey, SessionToken, Expiration string
	}
	errorResponse struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Error   stsError
	}
	stsError struct {
		Type, Code, Message string
	}
)
