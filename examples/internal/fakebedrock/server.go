// Package fakebedrock plays Amazon Bedrock on a local server: it judges the
// bearer token of every request and answers each API that the examples call with
// the same words.
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

// Why a request is refused, besides the errors of verify.
var (
	ErrNoBearerToken = errors.New("no bearer token")
	ErrAnotherKey    = errors.New("X-Api-Key is not the bearer token")
)

// Schemes by which a request may authenticate.
const (
	Bearer = "Bearer"
	SigV4  = "SigV4"
	None   = ""
)

// A Request is what the server keeps of a request. Header has no Authorization
// and no X-Api-Key, so that no test prints a token.
type Request struct {
	Method, Path string
	Header       http.Header
	Scheme       string
	Token        verify.Token // when Err is nil
	Err          error        // why the request was refused
}

// A Handler is Bedrock's runtime, control plane and Mantle in one.
type Handler struct {
	service verify.Service
	answers http.Handler
	mu      sync.Mutex
	record  []Request
}

// NewHandler returns a Handler that accepts the tokens that service does.
func NewHandler(service verify.Service) *Handler {
	return &Handler{service: service, answers: answers()}
}

// Requests returns what was recorded of all requests so far.
func (h *Handler) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.record)
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Err: ErrNoBearerToken}
	request.Header.Del("Authorization")
	request.Header.Del("X-Api-Key")
	switch scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " "); scheme {
	case "Bearer":
		request.Scheme = Bearer
		request.Token, request.Err = h.service.Verify(credentials)
		// Mantle takes a key from there too.
		if key := r.Header.Get("X-Api-Key"); request.Err == nil && key != "" && key != credentials {
			request.Token, request.Err = verify.Token{}, ErrAnotherKey
		}
	case "AWS4-HMAC-SHA256":
		request.Scheme = SigV4
	default:
		request.Scheme = None
	}
	h.mu.Lock()
	h.record = append(h.record, request)
	h.mu.Unlock()

	w.Header().Set("Date", h.service.Now().UTC().Format(http.TimeFormat))
	if request.Err != nil {
		fail(w, refusal(r), "AccessDeniedException", "Authentication failed: "+request.Err.Error())
		return
	}
	h.answers.ServeHTTP(w, r)
}

// refusal returns the status of an answer to a request without a good token. At
// Mantle it is 401, see https://github.com/openai/codex/pull/28992; of the paths
// that it shares with the runtime, the runtime's is returned.
func refusal(r *http.Request) int {
	if strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/anthropic/") {
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// A Server is a Handler that listens.
type Server struct {
	*Handler

	URL    string       // https
	Client *http.Client // trusts Certificate

	Certificate *x509.Certificate
}

// New starts a server that accepts the tokens that service does. It is closed
// when the test ends.
func New(t testing.TB, service verify.Service) *Server {
	h := NewHandler(service)
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return &Server{Handler: h, URL: server.URL, Client: server.Client(), Certificate: server.Certificate()}
}

// fail answers with an error as Bedrock words it.
func fail(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	writeJSON(w, status, object{"message": message})
}
