// Package clienttest puts the clients of the examples through the scenarios that
// matter for a token: it is accepted, it follows the credentials, nothing in the
// environment takes its place, and a source that fails is an error that can be
// told from others.
package clienttest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// Region is the only one whose tokens the server accepts.
const Region = "us-west-2"

// A Call asks the model and writes its answer to w.
type Call func(ctx context.Context, w io.Writer) error

// A Setup is what a client is made from.
type Setup struct {
	Provider   *bedrocktoken.Provider
	Endpoint   string
	HTTPClient *http.Client // trusts Endpoint
}

// A Client is what Run tests.
type Client struct {
	// New makes the client. All calls go through the client that it made.
	New func(t *testing.T, s Setup) Call
}

// Run runs all scenarios on each of the clients.
func Run(t *testing.T, clients map[string]Client) {
	Isolate(t)
	for _, scenario := range []struct {
		name     string
		parallel bool
		run      func(Client, *testing.T)
	}{
		{"environment", false, Client.environment},
		{"success", true, Client.success},
		{"failing source", true, Client.failingSource},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			if scenario.parallel {
				t.Parallel()
			}
			for name, client := range clients {
				t.Run(name, func(t *testing.T) {
					if scenario.parallel {
						t.Parallel()
					}
					scenario.run(client, t)
				})
			}
		})
	}
}

func (c Client) success(t *testing.T) {
	const lifetime = 2 * time.Second
	s := c.start(t, &Keys{lifetime: lifetime})
	s.succeeds(t)
	s.succeeds(t)
	s.keys.Rotate()
	time.Sleep(lifetime)
	s.succeeds(t)
}

func (c Client) environment(t *testing.T) {
	stale := hostileEnvironment(t)
	s := c.start(t, &Keys{lifetime: time.Hour})
	for name, values := range s.succeeds(t).Header {
		if strings.Contains(strings.Join(values, ", "), stale) {
			t.Errorf("header %s holds a value of the environment", name)
		}
	}
}

func (c Client) failingSource(t *testing.T) {
	errSource := errors.New("the source of credentials failed")
	s := c.start(t, &Keys{err: errSource})
	var answer strings.Builder
	err := s.call(t.Context(), &answer)
	if !errors.Is(err, bedrocktoken.ErrCredentials) {
		t.Errorf("error %v is not ErrCredentials", err)
	}
	if !errors.Is(err, errSource) {
		t.Errorf("error %v does not tell why the source failed", err)
	}
	if got := answer.String(); got != "" {
		t.Errorf("answer %q", got)
	}
	if got := len(s.server.Requests()); got != 0 {
		t.Errorf("%d requests were sent", got)
	}
}

// A session is a client at work.
type session struct {
	server *fakebedrock.Server
	keys   *Keys
	call   Call
}

func (c Client) start(t *testing.T, keys *Keys) *session {
	t.Helper()
	s := &session{keys: keys, server: fakebedrock.New(t, verify.Service{Region: Region, Secret: keys.Secret})}
	provider, err := bedrocktoken.NewProvider(t.Context(),
		bedrocktoken.WithRegion(Region),
		bedrocktoken.WithCredentialsProvider(keys))
	if err != nil {
		t.Fatal(err)
	}
	s.call = c.New(t, Setup{Provider: provider, Endpoint: s.server.URL, HTTPClient: s.server.Client})
	return s
}

// succeeds makes one call, which has to be one request signed with the present
// keys, and returns what the server recorded of it.
func (s *session) succeeds(t *testing.T) fakebedrock.Request {
	t.Helper()
	before := len(s.server.Requests())
	var answer strings.Builder
	if err := s.call(t.Context(), &answer); err != nil {
		t.Error(err)
	}
	if got := strings.TrimSpace(answer.String()); got != fakebedrock.Answer {
		t.Errorf("answer %q, want %q", got, fakebedrock.Answer)
	}
	requests := s.server.Requests()[before:]
	if len(requests) != 1 {
		t.Errorf("%d requests were sent, want 1", len(requests))
	}
	for _, request := range requests {
		checkRequest(t, request, s.keys)
	}
	if t.Failed() {
		t.FailNow()
	}
	return requests[0]
}

func checkRequest(t *testing.T, request fakebedrock.Request, keys *Keys) {
	t.Helper()
	if request.Scheme != fakebedrock.Bearer || request.Err != nil {
		t.Errorf("%s %s: scheme %q, refused: %v", request.Method, request.Path, request.Scheme, request.Err)
	} else if got, want := request.Token.AccessKeyID, keys.current().AccessKeyID; got != want {
		t.Errorf("%s %s: access key ID %q, want %q", request.Method, request.Path, got, want)
	}
}
