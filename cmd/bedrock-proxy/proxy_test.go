package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

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

// verified fails the test if a request has no good token, which next does not see.
func verified(t *testing.T, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(strings.Join(r.Header.Values("Authorization"), ", "), "Bearer ")
		if _, err := service.Verify(token); err != nil {
			t.Errorf("%s %s arrived without a good token: %v", r.Method, r.RequestURI, err)
		}
		r.Header.Del("Authorization")
		next(w, r)
	}
}

func ok(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"ok": true}`)
}

// answerWith returns the URL of a server that answers each request so.
func answerWith(t *testing.T, answer string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else an error of writing it may come before that of the answer
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			io.WriteString(conn, answer)
			conn.Close()
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A source of credentials counts how often it is asked, and fails if it is to.
type source struct {
	asked atomic.Int32
	err   error
}

func (s *source) Retrieve(context.Context) (aws.Credentials, error) {
	s.asked.Add(1)
	if s.err != nil {
		return aws.Credentials{}, s.err
	}
	return aws.Credentials{
		AccessKeyID: "ASIAPROXY", SecretAccessKey: secretKey, SessionToken: session,
		CanExpire: true, Expires: time.Now().Add(12 * time.Hour),
	}, nil
}

func (s *source) provider(t *testing.T) *bedrocktoken.Provider {
	return must(bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(s)))
}

// must returns v, and panics if there is an error that no test is about.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A site is the program's server and, unless a test has its own, one in Bedrock's
// place.
type site struct {
	url     string
	client  *http.Transport
	source  source
	arrived atomic.Int32
	end     func() (log string) // which waits for running requests
}

// newSite starts a proxy with a key or none. Bedrock answers with answer, over
// HTTP/2.
func newSite(t *testing.T, key string, answer http.HandlerFunc) *site {
	t.Helper()
	s := &site{}
	bedrock := httptest.NewUnstartedServer(verified(t, func(w http.ResponseWriter, r *http.Request) {
		s.arrived.Add(1)
		answer(w, r)
	}))
	bedrock.EnableHTTP2 = true
	bedrock.StartTLS()
	t.Cleanup(bedrock.Close)
	s.start(t, &proxy{key: key, endpoint: must(parseEndpoint(bedrock.URL))}, transportTo(t, bedrock.Certificate()))
	return s
}

// transportTo returns the program's own transport, which trusts a server.
func transportTo(t *testing.T, certificate *x509.Certificate) *http.Transport {
	base := must(newTransport(t.Context(), ""))
	if certificate != nil {
		base.TLSClientConfig.RootCAs = x509.NewCertPool()
		base.TLSClientConfig.RootCAs.AddCert(certificate)
	}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

func (s *site) start(t *testing.T, p *proxy, base http.RoundTripper) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	lines := &strings.Builder{}
	p.log = log.New(lines, "", 0)
	s.url = "http://" + listener.Addr().String()
	s.client = &http.Transport{DisableCompression: true}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, p.handler(s.source.provider(t), base)) }()
	s.end = sync.OnceValue(func() string {
		s.client.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		return lines.String()
	})
	t.Cleanup(func() { s.end() })
}

// overHTTP2 makes a client begin with HTTP/2 in the clear, as the AWS SDK for
// JavaScript does, which does not fall back to HTTP/1.1.
func overHTTP2(client *http.Transport) {
	client.Protocols = new(http.Protocols)
	client.Protocols.SetUnencryptedHTTP2(true)
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader("{}"))
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

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// judge fails the test unless the answer is Bedrock's, for status 200, or else the
// proxy's own, and neither Bedrock nor the source of credentials was asked.
func (s *site) judge(t *testing.T, response *http.Response, status int) {
	t.Helper()
	arrived := s.arrived.Load()
	if status == http.StatusOK {
		if body := read(t, response); response.StatusCode != status || body != `{"ok": true}` || arrived == 0 {
			t.Errorf("%d %s, and %d requests arrived", response.StatusCode, body, arrived)
		}
		return
	}
	errorOf(t, response, status)
	if asked := s.source.asked.Load(); asked != 0 || arrived != 0 {
		t.Errorf("credentials were fetched %d times, and %d requests arrived", asked, arrived)
	}
}

// errorOf returns the message of an error of the proxy.
func errorOf(t *testing.T, response *http.Response, status int) string {
	t.Helper()
	body := read(t, response)
	var answer struct {
		Message string
		Error   struct{ Type, Message string }
	}
	kinds := map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error", 502: "api_error", 503: "api_error"}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error.Type != kinds[status] || answer.Message != answer.Error.Message ||
		!strings.HasPrefix(answer.Message, "bedrock-proxy: ") || strings.Count(answer.Message, "\n") > 1 || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("not an error of the proxy: %s, %v", body, err)
	}
	if response.StatusCode != status {
		t.Errorf("status %d, want %d: %s", response.StatusCode, status, body)
	}
	for _, secret := range []string{secretKey, session, proxyKey, callersOwn, "bedrock-api-key-"} {
		if strings.Contains(body, secret) {
			t.Errorf("the error shows %s", secret)
		}
	}
	return answer.Message
}

// The path decides where a request goes. Paths and queries arrive byte for byte,
// with an endpoint's own path before them.
func TestRoutes(t *testing.T) {
	const (
		runtime = "https://bedrock-runtime.us-west-2.amazonaws.com"
		mantle  = "https://bedrock-mantle.us-west-2.api.aws"
		control = "https://bedrock.us-west-2.amazonaws.com"
		arn     = "arn%3aaws%3Abedrock:us-west-2:123456789012:application-inference-profile%2Fabc"
	)
	type destination struct{ host, path string }
	tests := map[string]destination{
		"/runtime/model/amazon.nova-lite-v1%3A0/converse?a=b%20c": {runtime, "/model/amazon.nova-lite-v1%3A0/converse?a=b%20c"},
		"/runtime/v1/messages":             {runtime, "/v1/messages"},
		"/runtime/mantle/v1/models":        {runtime, "/mantle/v1/models"},
		"/runtime//evil.example/model/x":   {runtime, "//evil.example/model/x"},
		"/runtime/a%2Fb%2f~!c%20/":         {runtime, "/a%2Fb%2f~!c%20/"},
		"/runtime/%2Fmodel":                {runtime, "/%2Fmodel"},
		"/runtime/*":                       {runtime, "/*"},
		"/mantle/v1/messages":              {mantle, "/v1/messages"},
		"/mantle/openai/v1/responses?a":    {mantle, "/openai/v1/responses?a"},
		"/mantle/?x":                       {mantle, "/?x"},
		"/control/foundation-models/a%3A0": {control, "/foundation-models/a%3A0"},
		"/v1/messages":                     {mantle, "/anthropic/v1/messages"},
		"/v1/messages?beta=true":           {mantle, "/anthropic/v1/messages?beta=true"},
		"/v1/messages/batches/a%2Fb":       {mantle, "/anthropic/v1/messages/batches/a%2Fb"},
	}
	for path, host := range map[string]string{ // these paths stay as they are
		"/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke":   runtime,
		"/model/us.anthropic.claude-haiku-4-5-20251001-v1%3a0/invoke": runtime,
		"/model/" + arn + "/converse-stream":                          runtime,
		"/model/a%20b+c%25d%C3%A9~!$&'()*,;=@%5B%5D/converse":         runtime,
		"/guardrail/x/version/DRAFT/apply":                            runtime,
		"/async-invoke":                                               runtime,
		"/async-invoke?maxResults=1":                                  runtime,
		"/async-invoke/arn%3Aaws":                                     runtime,
		"/openai/v1":                                                  runtime,
		"/v1//files/":                                                 mantle,
		"/v1/models/a..b/.c/d.":                                       mantle,
		"/v1/messagesx":                                               mantle,
		"/v1/messages%2Fcount_tokens":                                 mantle,
		"/v1/%6dessages":                                              mantle,
		"/anthropic/v1/messages":                                      mantle,
		"/foundation-models?byProvider=a%20b+c&x=%2F&y&=&z=:/":        control,
		"/inference-profiles/" + arn:                                  control,
	} {
		tests[path] = destination{host, path}
	}
	for _, path := range []string{
		"/", "/model", "/guardrails/x", "/v1", "/v1?x=/v1/", "/v10/models", "/V1/models", "/foundation-models-x", "/foundation-models%2Fx",
		"/x/model/y", "//model/x", "//evil.example/v1/models", "/%761/models", "/v1%2Fmodels", "/runtime", "/mantle?x=/", "/mantleful/v1/models",
		"/mantle:443/v1/models", "/mantl%65/v1/models", `/mantle\v1/models`,
		"/./v1/models", "/v1/../model/x", "/model/..", "/model/.", "/model/%2e%2E/v1/models", "/model/.%2e/v1/models", "/model/..%2fv1/models",
		`/model/..%5Cv1/models`, `/model/..\v1/models`, "/model/..;/v1/models", "/model/..%3Bx/v1/models", "/mantle/%2e/v1/models",
		"/mantle//../model/x", `/mantle/v1\..\models`, "/foundation-models/../model/x", "/runtime/../mantle/v1/models",
	} {
		tests[path] = destination{}
	}
	for _, base := range []string{"", "https://Gateway.example.com:8443", "https://Gateway.example.com:8443/gate%2Fway:1/"} {
		var sent string
		s := &site{}
		s.start(t, &proxy{endpoint: must(parseEndpoint(base))}, awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			if r.Host != "" && r.Host != r.URL.Host {
				t.Errorf("the Host is %q", r.Host)
			}
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if _, err := service.Verify(token); err != nil {
				t.Error(err)
			}
			sent = r.URL.String()
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		}))
		for path, to := range tests {
			sent = ""
			response := s.raw(t, "POST "+path+" HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n")
			want := to.host + to.path
			switch {
			case to.host == "":
				if message := errorOf(t, response, http.StatusNotFound); !strings.Contains(message, " /v1/messages, /v1/, ") {
					t.Errorf("%q does not list what is served", message)
				}
			case base != "":
				want = strings.TrimSuffix(base, "/") + to.path
			}
			if sent != want {
				t.Errorf("%s: sent to %s, want %s", path, sent, want)
			}
		}
	}
}

// Without a key the host decides, so that no web page can make a name of its own
// lead here. With one the key does, and a container may call this machine by any
// name. Web pages are refused in any case, even if they only read. Who is refused
// gets nothing, not even a look for credentials.
func TestCallers(t *testing.T) {
	const none = ""
	for _, test := range []struct {
		name, key, path string
		header          []string
		status          int
	}{
		{"localhost", none, "/v1/models", []string{"Host", "LocalHost:1", "X-Api-Key", "dummy"}, 200},
		{"IPv4", none, "/v1/models", []string{"Host", "127.255.0.9:8484"}, 200},
		{"IPv6", none, "/v1/models", []string{"Host", "[::1]:8484"}, 200},
		{"another host", none, "/v1/models", []string{"Host", callersOwn + ".example:8484"}, 403},
		{"another host, unknown path", none, "/", []string{"Host", "evil.example"}, 403},
		{"another host with a key that nobody asked for", none, "/v1/models", []string{"Host", "evil.example", "X-Api-Key", proxyKey}, 403},
		{"beginning with localhost", none, "/v1/models", []string{"Host", "localhost.evil.example"}, 403},
		{"below localhost", none, "/v1/models", []string{"Host", "sub.localhost"}, 403},
		{"a port that is none", none, "/v1/models", []string{"Host", "127.0.0.1:x"}, 403},
		{"all addresses", none, "/v1/models", []string{"Host", "0.0.0.0:8484"}, 403},
		{"an address of the network", none, "/v1/models", []string{"Host", "192.168.0.1:8484"}, 403},

		{"typed into a browser", none, "/v1/models", []string{"Sec-Fetch-Site", "none"}, 200},
		{"this origin", none, "/v1/models", []string{"Host", "127.0.0.1:8484", "Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8484"}, 200},
		{"this origin, old browser", none, "/v1/models", []string{"Host", "127.0.0.1:8484", "Origin", "http://127.0.0.1:8484"}, 200},
		{"another site", none, "/v1/models", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port", none, "/v1/models", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000"}, 403},
		{"another port, old browser", none, "/v1/models", []string{"Origin", "http://127.0.0.1:3000"}, 403},
		{"a file or a frame", none, "/v1/models", []string{"Origin", "null"}, 403},
		{"another site with the key", proxyKey, "/v1/models", []string{"X-Api-Key", proxyKey, "Sec-Fetch-Site", "cross-site"}, 403},
		{"another site with the key, old browser", proxyKey, "/v1/models", []string{"X-Api-Key", proxyKey, "Host", "host.docker.internal:8484", "Origin", "https://evil.example"}, 403},

		{"bearer token", proxyKey, "/v1/models", []string{"Authorization", "Bearer " + proxyKey}, 200},
		{"bearer token, another case", proxyKey, "/v1/models", []string{"Authorization", "bearer " + proxyKey}, 200},
		{"X-Api-Key", proxyKey, "/mantle/v1/models", []string{"X-Api-Key", proxyKey}, 200},
		{"one of two", proxyKey, "/v1/models", []string{"Authorization", "Bearer x", "X-Api-Key", proxyKey}, 200},
		{"from a container", proxyKey, "/v1/models", []string{"X-Api-Key", proxyKey, "Host", "host.docker.internal:8484"}, 200},
		{"no key", proxyKey, "/v1/models", nil, 401},
		{"no key, from a container", proxyKey, "/v1/models", []string{"Host", "host.docker.internal:8484"}, 401},
		{"no key, unknown path", proxyKey, "/nowhere", nil, 401},
		{"an empty one", proxyKey, "/v1/models", []string{"Authorization", "Bearer ", "X-Api-Key", ""}, 401},
		{"another", proxyKey, "/v1/models", []string{"Authorization", "Bearer x", "X-Api-Key", callersOwn}, 401},
		{"the beginning", proxyKey, "/v1/models", []string{"X-Api-Key", proxyKey[:5]}, 401},
		{"more", proxyKey, "/v1/models", []string{"X-Api-Key", proxyKey + "x"}, 401},
		{"another case", proxyKey, "/v1/models", []string{"X-Api-Key", strings.ToUpper(proxyKey)}, 401},
		{"without a scheme", proxyKey, "/v1/models", []string{"Authorization", proxyKey}, 401},
		{"basic", proxyKey, "/v1/models", []string{"Authorization", "Basic " + proxyKey}, 401},
		{"elsewhere", proxyKey, "/v1/models", []string{"Cookie", proxyKey, "Api-Key", proxyKey}, 401},
		{"the key, unknown path", proxyKey, "/mantle/%2e%2e/model/x", []string{"X-Api-Key", proxyKey}, 404},
	} {
		for _, http2 := range []bool{false, true} {
			for _, method := range []string{"GET", "OPTIONS", "POST"} {
				s := newSite(t, test.key, ok)
				if http2 {
					overHTTP2(s.client)
				}
				response := s.do(t, method, test.path, test.header...)
				s.judge(t, response, test.status)
				if got := response.Header.Get("WWW-Authenticate"); (got == "Bearer") != (test.status == 401) {
					t.Errorf("WWW-Authenticate: %s", got)
				}
				if t.Failed() {
					t.Fatalf("%s: %s over %s", test.name, method, response.Proto)
				}
			}
		}
	}
}

// It is a way to Bedrock, and to nothing else.
func TestNoForwardProxy(t *testing.T) {
	for request, status := range map[string]int{
		"GET http://evil.example/v1/models HTTP/1.1\nHost: evil.example\n\n":     400,
		"GET http://localhost:9999/v1/models HTTP/1.1\nHost: localhost:9999\n\n": 400,
		"GET http://u:p@localhost/v1/models HTTP/1.1\nHost: localhost\n\n":       400,
		"CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n":          400,
		"CONNECT /v1/models HTTP/1.1\nHost: localhost\n\n":                       400,
		"TRACE /v1/models HTTP/1.1\nHost: localhost\n\n":                         400,
		"OPTIONS * HTTP/1.1\nHost: localhost\n\n":                                404,
		"GET /v1/models HTTP/1.0\n\n":                                            403,
	} {
		s := newSite(t, "", ok)
		if s.judge(t, s.raw(t, request), status); t.Failed() {
			t.Fatal(request)
		}
	}
}

// What a caller authenticates with stays here, in trailers too, and so does an offer
// of another protocol, as Java's client makes with every request. The rest travels on,
// and nothing is added that the caller's client does not know of. A cookie of Bedrock's
// stays there.
func TestHeaders(t *testing.T) {
	const get, post = "GET /v1/models HTTP/1.1\nHost: localhost\n", "POST /v1/responses HTTP/1.1\nHost: localhost\n"
	for request, want := range map[string]string{
		get + "\n": "map[]",
		get + "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAA\n\n":                                         "map[]",
		get + "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\n":                                                          "map[Sec-Websocket-Version:[13]]",
		get + "Connection: X-Hop, Anthropic-Beta\nX-Hop: 1\nX-Amzn-Bedrock-Trace: ENABLED\nAnthropic-Version: 2023-06-01\nUser-Agent: test\n\n": "map[Anthropic-Version:[2023-06-01] User-Agent:[test] X-Amzn-Bedrock-Trace:[ENABLED]]",
		get + "Authorization: Bearer ME\nProxy-Authorization: Basic ME\nX-Api-Key: ME\nApi-Key: ME\n\n":                                         "map[]",
		get + "Cookie: a=ME\nCookie: b=ME\nX-Amz-Security-Token: ME\nx-amz-date: ME\n\n":                                                        "map[]",
		get + "Forwarded: for=ME\nX-Forwarded-For: ME\nX-Forwarded-Host: ME\n\n":                                                                "map[]",
		post + "Trailer: Authorization, X-Api-Key\nTransfer-Encoding: chunked\n\n2\n{}\n0\nAuthorization: Bearer ME\nX-Api-Key: ME\n\n":         "map[]",
	} {
		var got string
		s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			got = fmt.Sprint(r.Header) // of a map, sorted
			if strings.Contains(fmt.Sprint(r.Trailer), callersOwn) {
				t.Errorf("trailers %v", r.Trailer)
			}
			w.Header().Set("Set-Cookie", "AWSALB=x")
			w.Header().Set("X-Amzn-Requestid", "1")
			ok(w, r)
		})
		response := s.raw(t, strings.ReplaceAll(request, "ME", callersOwn))
		s.judge(t, response, http.StatusOK)
		if got != want {
			t.Errorf("%sarrives with %s, want %s", request, got, want)
		}
		if response.Header.Get("Set-Cookie") != "" || response.Header.Get("X-Amzn-Requestid") != "1" {
			t.Errorf("headers of the answer: %v", response.Header)
		}
	}
}

// A status is the answer of a source with that status.
type status int

func (s status) Error() string       { return fmt.Sprintf("the source answered with status %d", int(s)) }
func (s status) HTTPStatusCode() int { return int(s) }

// A source that is out of order for the moment is worth another try. Any other
// answer makes no tool try again for minutes. The proxy serves as soon as there are
// credentials.
func TestNoCredentials(t *testing.T) {
	for _, test := range []struct {
		cause              error
		status             int
		retryAfter, should string
	}{
		{errors.New("nobody has signed in"), 403, "", "false"},
		{status(403), 403, "", "false"},
		{status(503), 503, "5", ""},
		{context.DeadlineExceeded, 503, "5", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			source := &source{err: test.cause}
			var lines strings.Builder
			p := &proxy{log: log.New(&lines, "", 0)}
			_, client, stop := inMemory(t, p.handler(source.provider(t), awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
			})))
			get := func() *http.Response {
				response, err := client.Get("http://localhost/v1/models")
				if err != nil {
					t.Fatal(err)
				}
				return response
			}
			response := get()
			message := errorOf(t, response, test.status)
			if !strings.Contains(message, test.cause.Error()) && !errors.Is(test.cause, context.DeadlineExceeded) {
				t.Errorf("message %q", message)
			}
			synctest.Wait()
			if reason, _, _ := strings.Cut(strings.TrimPrefix(message, "bedrock-proxy"), "\n"); !strings.HasSuffix(lines.String(), "s"+reason+"\n") {
				t.Errorf("the log %q has no %q", lines.String(), reason)
			}
			if header := response.Header; header.Get("Retry-After") != test.retryAfter || header.Get("X-Should-Retry") != test.should {
				t.Errorf("%v: headers %v", test.cause, header)
			}
			source.err = nil
			time.Sleep(5 * time.Second)
			if response := get(); response.StatusCode != http.StatusOK {
				t.Errorf("%v: %s later", test.cause, response.Status)
			} else {
				response.Body.Close()
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A renewal that failed is one line of the log.
func TestRenewalLog(t *testing.T) {
	var lines strings.Builder
	p := &proxy{profile: "team", log: log.New(&lines, "", 0)}
	p.notRenewed(fmt.Errorf("%w: the SSO session has expired or is invalid", bedrocktoken.ErrCredentials))
	text := lines.String()
	if !strings.HasPrefix(text, "credentials not renewed: no valid credentials: the SSO session has expired or is invalid Sign in with ") || strings.Count(text, "\n") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}

// Who cannot reach Bedrock learns why, but nothing of an answer that is none.
func TestUnreachable(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	listener.Close()
	stranger := httptest.NewTLSServer(http.HandlerFunc(ok)) // whose certificate nobody trusts
	defer stranger.Close()
	for address, says := range map[string]string{
		"http://" + listener.Addr().String(): " cannot be reached: dial tcp",
		answerWith(t, ""):                    "127.0.0.1",
		answerWith(t, callersOwn+"\r\n\r\n"): " gave no valid answer\nTry again. ",
		answerWith(t, "HTTP/1.1 200 OK\r\nAuthorization Bearer "+callersOwn+"\r\n\r\n"):                " gave no valid answer\n",
		answerWith(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"): " gave no valid answer\n",
		answerWith(t, "HTTP/1.1 099 No\r\n\r\n"):                                                       " gave no valid answer\n",
		stranger.URL:                                                                                   "certificate signed by unknown authority\nIf a proxy on the way has a certificate of its own, restart bedrock-proxy with AWS_CA_BUNDLE ",
	} {
		s := &site{}
		s.start(t, &proxy{endpoint: must(parseEndpoint(address))}, transportTo(t, nil))
		if message := errorOf(t, s.do(t, "POST", "/v1/responses"), http.StatusBadGateway); !strings.Contains(message, says) {
			t.Errorf("message %q, want %q in it", message, says)
		}
	}
}

// Each piece of an answer arrives before the next is sent.
func TestStream(t *testing.T) {
	const events, event = 20, "data: {\"type\": \"event\"}\n\n"
	for _, http2 := range []bool{false, true} {
		for _, header := range []http.Header{
			{"Content-Type": {"text/event-stream"}},
			{"Content-Type": {"application/vnd.amazon.eventstream"}},
			{"Content-Type": {"application/octet-stream"}, "Content-Length": {fmt.Sprint(events * len(event))}},
		} {
			seen := make(chan struct{})
			s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
				if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
					t.Errorf("%q arrived, %v", body, err)
				}
				for name, values := range header {
					w.Header()[name] = values
				}
				for range events {
					io.WriteString(w, event)
					w.(http.Flusher).Flush()
					select {
					case <-seen:
					case <-r.Context().Done():
						return
					}
				}
			})
			if http2 {
				overHTTP2(s.client)
			}
			response := s.do(t, "POST", "/v1/responses")
			for i, buffer := 0, make([]byte, len(event)); i < events; i++ {
				if _, err := io.ReadFull(response.Body, buffer); err != nil || string(buffer) != event {
					t.Fatalf("event %d: %q, %v", i, buffer, err)
				}
				seen <- struct{}{}
			}
			if rest := read(t, response); rest != "" {
				t.Errorf("%q", rest)
			}
		}
	}
}

// An answer arrives even if Bedrock does not wait for the whole request.
func TestEarlyAnswer(t *testing.T) {
	s := newSite(t, "", ok)
	s.judge(t, s.raw(t, "POST /v1/responses HTTP/1.1\nHost: localhost\nContent-Length: 1000\n\n{"), http.StatusOK)
}

// A caller can go on with its connection after an error for which its body was
// not read.
func TestConnectionAfterError(t *testing.T) {
	s := newSite(t, "", ok)
	s.source.err = errors.New("nobody has signed in")
	s.client.MaxConnsPerHost = 1
	dials := 0
	s.client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for range 3 {
		errorOf(t, s.do(t, "POST", "/v1/responses"), http.StatusForbidden)
	}
	if dials != 1 {
		t.Errorf("%d connections", dials)
	}
}

// A stream that Bedrock breaks off is broken off here too, and not made to look
// complete. The log does not quote what was wrong with it.
func TestBrokenStream(t *testing.T) {
	s := &site{}
	s.start(t, &proxy{endpoint: must(parseEndpoint(answerWith(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nCookie "+callersOwn+"\r\n\r\n")))}, transportTo(t, nil))
	if body, err := io.ReadAll(s.do(t, "POST", "/v1/responses").Body); err == nil || string(body) != "{}" {
		t.Errorf("%q, %v", body, err)
	}
	if text := s.end(); strings.Count(text, "\n") != 1 || strings.Contains(text, callersOwn) {
		t.Errorf("the log:\n%s", text)
	}
}

// When a caller goes away, so does its request to Bedrock.
func TestCallerGoesAway(t *testing.T) {
	for answered, status := range map[bool]string{false: "499", true: "200"} {
		arrived, ended := make(chan struct{}), make(chan struct{})
		s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if answered {
				w.(http.Flusher).Flush()
			}
			close(arrived)
			<-r.Context().Done()
			close(ended)
		})
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/responses", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-arrived
			if !answered {
				cancel()
			}
		}()
		response, err := s.client.RoundTrip(request)
		if cancel(); (err == nil) != answered {
			t.Fatal(err)
		}
		if answered {
			response.Body.Close()
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("Bedrock still works for nobody")
		}
		if text := s.end(); !strings.HasPrefix(text, `POST "/v1/responses" `+status) {
			t.Errorf("the log:\n%s", text)
		}
	}
}

// Bodies of any size pass as they are, and so do Bedrock's own refusals.
func TestLargeRefusal(t *testing.T) {
	want := strings.Repeat("0123456789abcdef", 20<<20/16)
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != want || r.ContentLength != int64(len(want)) {
			t.Errorf("%d bytes arrived, %d announced: %v", len(got), r.ContentLength, err)
		}
		w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		w.Write(got)
	})
	response, err := (&http.Client{Transport: s.client}).Post(s.url+"/model/x/invoke", "application/json", strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := read(t, response); got != want || response.StatusCode != http.StatusForbidden || response.Header.Get("X-Amzn-Errortype") == "" {
		t.Errorf("%s %v and %d bytes came back", response.Status, response.Header, len(got))
	}
}

// The log has a line for each request, with nothing in it that is secret or forged.
func TestLog(t *testing.T) {
	s := newSite(t, proxyKey, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Secret", callersOwn)
		if r.URL.Path == "/v1/created" {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
		}
		io.WriteString(w, callersOwn)
	})
	for _, path := range []string{"/v1/created", "/v1/a%0Ab%1b[1m%22", "/nowhere", "/" + strings.Repeat("x", 10_000)} {
		s.do(t, "POST", path+"?secret="+callersOwn, "X-Api-Key", proxyKey, "X-Secret", callersOwn)
	}
	s.do(t, "GET", "/v1/models", "X-Api-Key", callersOwn)
	s.do(t, "GET", "/v1/models", "Origin", callersOwn)
	s.raw(t, "GET http://"+callersOwn+":"+callersOwn+"@localhost/v1/models HTTP/1.1\nHost: localhost\n\n")
	s.raw(t, strings.Repeat("X", 1000)+" /nowhere HTTP/1.1\nHost: localhost\nX-Api-Key: "+proxyKey+"\n\n")
	text := s.end()
	got := strings.Split(regexp.MustCompile(`(?m) [0-9.µm]+s(:|$)`).ReplaceAllString(strings.TrimSpace(text), "$1"), "\n")
	want := []string{
		`GET "/v1/models" 400: this is not a forward proxy`,
		`GET "/v1/models" 401: the key is missing or wrong`,
		`GET "/v1/models" 403: web pages may not use this proxy`,
		`POST "/` + strings.Repeat("x", 499) + `" 404: unknown path`,
		`POST "/nowhere" 404: unknown path`,
		`POST "/v1/a%0Ab%1b[1m%22" 200`,
		`POST "/v1/created" 201`,
		strings.Repeat("X", 20) + ` "/nowhere" 404: unknown path`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, secret := range []string{callersOwn, proxyKey, secretKey, url.QueryEscape(session), "bedrock-api-key-"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %s:\n%s", secret, text)
		}
	}
}

// A link is the network between a proxy and Bedrock, all in one bubble of synctest.
type link struct {
	cuts, dials, sent atomic.Int32 // sent counts what the proxy has written
	caller            *http.Client
	stop              func()
}

// A wire is a connection of a link. It dies when the link is cut, and neither end is
// told.
type wire struct {
	net.Conn
	link *link
	born int32
}

func (w wire) dead() bool { return w.link.cuts.Load() > w.born }

func (w wire) Write(p []byte) (int, error) {
	w.link.sent.Add(1)
	if w.dead() {
		return len(p), nil // which is lost
	}
	return w.Conn.Write(p)
}

func (w wire) Read(p []byte) (int, error) {
	for {
		if n, err := w.Conn.Read(p); err != nil || !w.dead() {
			return n, err
		}
	}
}

// linked starts Bedrock and a proxy with a link between them. The Transport is the
// program's own but for the way it connects.
func linked(t *testing.T, answer http.HandlerFunc) *link {
	t.Helper()
	certificate := awstest.Certificate(t, "example.com")
	bedrock := &http.Server{Handler: answer, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}}}
	network := make(awstest.Listener)
	ended := make(chan error, 1)
	go func() { ended <- bedrock.ServeTLS(network, "", "") }()

	l, base := &link{}, transportTo(t, must(x509.ParseCertificate(certificate.Certificate[0])))
	base.DialContext = func(ctx context.Context, net, address string) (net.Conn, error) {
		l.dials.Add(1)
		conn, err := network.DialContext(ctx, net, address)
		return wire{conn, l, l.cuts.Load()}, err
	}
	p := &proxy{endpoint: must(parseEndpoint("https://example.com")), log: log.New(io.Discard, "", 0)}
	_, caller, stop := inMemory(t, p.handler(new(source).provider(t), base))
	l.caller = caller
	l.stop = func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		base.CloseIdleConnections()
		bedrock.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
	return l
}

// A connection to Bedrock whose path dies in silence is left within a minute,
// although a stream and a call hang on it.
func TestDeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := linked(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Error(r.Proto)
			}
			switch r.URL.Path {
			case "/v1/stream":
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			case "/v1/slow":
				<-r.Context().Done()
			}
			ok(w, r)
		})
		call := func(path string) string {
			response, err := link.caller.Post("http://localhost"+path, "application/json", strings.NewReader("{}"))
			if err != nil {
				return err.Error()
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			return fmt.Sprint(response.StatusCode, string(body), err)
		}
		hung := make(chan string, 2)
		go func() { hung <- call("/v1/stream") }()
		synctest.Wait() // for its connection
		go func() { hung <- call("/v1/slow") }()
		time.Sleep(61 * time.Second) // a second after a ping, so that the next is far
		link.cuts.Add(1)
		start := time.Now()
		got := []string{<-hung, <-hung}
		slices.Sort(got)
		if got[0] != "200unexpected EOF" || !strings.HasPrefix(got[1], "502") {
			t.Errorf("they got %q", got)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("found out after %v", took)
		}
		if got, want := call("/v1/models"), `200{"ok": true}<nil>`; got != want || link.dials.Load() != 2 {
			t.Errorf("the next call got %s, over connection %d", got, link.dials.Load())
		}
		link.stop()
	})
}

// A caller may take as long as it likes to send, and a model to think: nothing is
// broken off for its silence. Meanwhile Bedrock gets a ping each half minute, as from
// Kubernetes: servers that count pings close the connection for more.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := linked(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.(http.Flusher).Flush()
			time.Sleep(time.Hour)
			ok(w, r)
		})
		reader, writer := io.Pipe()
		go func() {
			io.WriteString(writer, "{")
			time.Sleep(time.Hour)
			io.WriteString(writer, "}")
			writer.Close()
		}()
		response, err := link.caller.Post("http://localhost/v1/responses", "application/json", reader)
		if err != nil {
			t.Fatal(err)
		}
		before := link.sent.Load()
		if body := read(t, response); body != `{"ok": true}` {
			t.Errorf("%s %s", response.Status, body)
		}
		if pings := link.sent.Load() - before; pings > 120 {
			t.Errorf("%d pings in an hour", pings)
		}
		link.stop()
	})
}
