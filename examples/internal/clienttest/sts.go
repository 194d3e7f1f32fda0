package clienttest

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// An AssumeRole is a request that an STS received.
type AssumeRole struct {
	Role, ExternalID, SessionName string
	Seconds                       string // how long the session lasts
	Tags                          map[string]string
	AccessKeyID, Region           string // of the signature
}

// STS plays AWS's Security Token Service on a local server.
type STS struct {
	URL string

	answer   func(context.Context, AssumeRole) (aws.Credentials, error)
	mu       sync.Mutex
	requests []AssumeRole
}

// NewSTS starts an STS that gives out the credentials that answer returns. An error
// becomes a refusal. A request whose context is done is not answered.
func NewSTS(t *testing.T, answer func(context.Context, AssumeRole) (aws.Credentials, error)) *STS {
	s := &STS{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.CloseClientConnections() // else Close waits for a request without an answer
		server.Close()
	})
	s.URL = server.URL
	return s
}

// Requests returns all requests so far.
func (s *STS) Requests() []AssumeRole {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *STS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := AssumeRole{
		Role:        r.FormValue("RoleArn"),
		ExternalID:  r.FormValue("ExternalId"),
		SessionName: r.FormValue("RoleSessionName"),
		Seconds:     r.FormValue("DurationSeconds"),
		Tags:        map[string]string{},
	}
	for i := 1; r.Form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		member := fmt.Sprintf("Tags.member.%d.", i)
		request.Tags[r.Form.Get(member+"Key")] = r.Form.Get(member + "Value")
	}
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=")
	if scope := strings.Split(credential, "/"); len(scope) > 2 {
		request.AccessKeyID, request.Region = scope[0], scope[2]
	}
	s.mu.Lock()
	s.requests = append(s.requests, request)
	s.mu.Unlock()

	var creds aws.Credentials
	err := fmt.Errorf("no action %q", r.FormValue("Action"))
	if r.FormValue("Action") == "AssumeRole" {
		creds, err = s.answer(r.Context(), request)
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
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
