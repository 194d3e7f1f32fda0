// Package fakebedrock plays Amazon Bedrock on a local HTTPS server: it judges
// the bearer token of every request and answers each API that the examples call
// with the same words.
package fakebedrock

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// Answer is what every model says.
const Answer = "Hello from Bedrock."

// ErrNoBearerToken is why a request without a bearer token is refused.
var ErrNoBearerToken = errors.New("no bearer token")

// Schemes by which a request may authenticate.
const (
	Bearer = "Bearer"
	SigV4  = "SigV4"
	None   = ""
)

// A Request is what the server keeps of a request. Header has no Authorization,
// so that no test prints a token.
type Request struct {
	Method, Path string
	Header       http.Header
	Scheme       string
	Token        verify.Token // when Err is nil
	Err          error        // why the request was refused
}

// A Server is Bedrock's runtime, control plane and Mantle in one.
type Server struct {
	URL    string
	Client *http.Client // trusts Certificate

	Certificate *x509.Certificate

	service verify.Service
	mu      sync.Mutex
	record  []Request
}

// New starts a server that accepts the tokens that service does. It is closed
// when the test ends.
func New(t testing.TB, service verify.Service) *Server {
	s := &Server{service: service}
	server := httptest.NewTLSServer(s.authenticate(answers()))
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.Client = server.Client()
	s.Certificate = server.Certificate()
	return s
}

// Requests returns what was recorded of all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.record)
}

func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Err: ErrNoBearerToken}
		request.Header.Del("Authorization")
		switch scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " "); scheme {
		case "Bearer":
			request.Scheme = Bearer
			request.Token, request.Err = s.service.Verify(credentials)
		case "AWS4-HMAC-SHA256":
			request.Scheme = SigV4
		default:
			request.Scheme = None
		}
		s.mu.Lock()
		s.record = append(s.record, request)
		s.mu.Unlock()

		w.Header().Set("Date", s.service.Now().UTC().Format(http.TimeFormat))
		if request.Err != nil {
			fail(w, http.StatusForbidden, "AccessDeniedException", "Authentication failed: "+request.Err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fail answers with an error as Bedrock words it.
func fail(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	writeJSON(w, status, object{"message": message})
}
