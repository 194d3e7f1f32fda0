package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/testenv"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// isProgram in the environment makes this binary the program itself.
const isProgram = "BEDROCK_PROXY_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(isProgram) != "" {
		main()
		return
	}
	os.Exit(func() int {
		home, err := os.MkdirTemp("", "proxy")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(home)
		defer testenv.Isolate(home, "AWS_", "OPENAI_", "ANTHROPIC_", "XDG_", "BEDROCK_")()
		log.SetOutput(&logs)
		return m.Run()
	}())
}

// logs is what the program has logged.
var logs logBuffer

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// take returns what was logged since it was last called.
func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// Secrets of this side. Those of callers contain callersOwn.
const (
	region     = "us-west-2"
	secretKey  = "secret/of+the+proxy"
	session    = "session/of+the+proxy=="
	proxyKey   = "key-of-the-proxy"
	callersOwn = "callers-own"
)

var service = verify.Service{Region: region, Secret: func(accessKeyID, sessionToken string) (string, error) {
	if accessKeyID != "ASIAPROXY" || sessionToken != session {
		return "", errors.New("other credentials")
	}
	return secretKey, nil
}}

// A source of credentials that counts how often it is asked.
type source struct {
	asked  atomic.Int32
	cannot atomic.Pointer[error]
}

// fail makes the source return err from now on, or credentials if err is nil.
func (s *source) fail(err error) { s.cannot.Store(&err) }

func (s *source) Retrieve(context.Context) (aws.Credentials, error) {
	s.asked.Add(1)
	if err := s.cannot.Load(); err != nil && *err != nil {
		return aws.Credentials{}, *err
	}
	return aws.Credentials{
		AccessKeyID: "ASIAPROXY", SecretAccessKey: secretKey, SessionToken: session,
		CanExpire: true, Expires: time.Now().Add(12 * time.Hour),
	}, nil
}

func newProvider(t *testing.T, s *source) *bedrocktoken.Provider {
	t.Helper()
	provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(s))
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// A site is the program's server, and one in Bedrock's place that verifies tokens.
type site struct {
	url    string
	close  func() // which waits for running requests
	client *http.Transport
	source *source

	mu       sync.Mutex
	arrivals []*http.Request // which have no Authorization, so that no test prints it
}

func (s *site) arrived() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrivals
}

// newSite starts a proxy with a key or none. Bedrock answers with answer, over
// HTTP/2.
func newSite(t *testing.T, key string, answer http.HandlerFunc) *site {
	t.Helper()
	s := &site{source: &source{}}
	bedrock := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization := r.Header.Values("Authorization")
		r.Header.Del("Authorization")
		s.mu.Lock()
		s.arrivals = append(s.arrivals, r)
		s.mu.Unlock()
		token, _ := strings.CutPrefix(strings.Join(authorization, ", "), "Bearer ")
		if _, err := service.Verify(token); err != nil {
			t.Errorf("%s %s arrived without a good token: %v", r.Method, r.RequestURI, err)
		}
		answer(w, r)
	}))
	bedrock.EnableHTTP2 = true
	bedrock.StartTLS()
	t.Cleanup(bedrock.Close)
	transport := newTransport()
	transport.TLSClientConfig = bedrock.Client().Transport.(*http.Transport).TLSClientConfig
	t.Cleanup(transport.CloseIdleConnections)
	s.start(t, newProxy(newProvider(t, s.source), "", mustParse(t, bedrock.URL), key, transport))
	return s
}

// siteOf starts a proxy in front of the server at endpoint.
func siteOf(t *testing.T, endpoint string) *site {
	t.Helper()
	s := &site{source: &source{}}
	s.start(t, newProxy(newProvider(t, s.source), "", mustParse(t, endpoint), "", newTransport()))
	return s
}

func (s *site) start(t *testing.T, handler http.Handler) {
	t.Helper()
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + listener.Addr().String()
	s.client = &http.Transport{DisableCompression: true}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, handler) }()
	s.close = sync.OnceFunc(func() {
		s.client.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.close)
}

func mustParse(t *testing.T, endpoint string) *url.URL {
	t.Helper()
	u, err := parseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func ok(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"ok": true}`)
}

// raw sends request, whose lines end as they do in Go source, as it is.
func (s *site) raw(t *testing.T, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// do sends a request with headers, in pairs of name and value.
func (s *site) do(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			request.Host = header[i+1]
		} else {
			request.Header.Add(header[i], header[i+1])
		}
	}
	response, err := s.client.RoundTrip(request) // which follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// served fails the test unless the answer is Bedrock's.
func (s *site) served(t *testing.T, response *http.Response) {
	t.Helper()
	body := read(t, response)
	if response.StatusCode != http.StatusOK || body != `{"ok": true}` || len(s.arrived()) == 0 {
		t.Errorf("%d %s, and %d requests arrived", response.StatusCode, body, len(s.arrived()))
	}
}

// refused fails the test unless the answer is the proxy's own, and neither Bedrock
// nor the source of credentials was asked. It returns the message.
func (s *site) refused(t *testing.T, response *http.Response, status int) string {
	t.Helper()
	message := failure(t, response, status)
	if got := s.source.asked.Load(); got != 0 {
		t.Errorf("credentials were fetched %d times", got)
	}
	if got := len(s.arrived()); got != 0 {
		t.Errorf("%d requests arrived", got)
	}
	return message
}

// failure returns the message of an error of the proxy.
func failure(t *testing.T, response *http.Response, status int) string {
	t.Helper()
	body := read(t, response)
	var answer struct {
		Error struct{ Message string }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error.Message == "" || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("not an error in JSON: %s, %v", body, err)
	}
	if response.StatusCode != status {
		t.Errorf("status %d, want %d: %s", response.StatusCode, status, body)
	}
	for _, secret := range []string{secretKey, session, proxyKey, callersOwn, "bedrock-api-key-"} {
		if strings.Contains(body, secret) {
			t.Errorf("the error shows %s", secret)
		}
	}
	return answer.Error.Message
}

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}
