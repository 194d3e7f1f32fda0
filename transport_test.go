package bedrocktoken_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

const runtimeURL = "https://bedrock-runtime." + region + ".amazonaws.com"

// A body is a request's, and counts how often it is closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

// answer returns a RoundTripper that does what http.Transport does: closes the
// body, and points the response at the request.
func answer(seen *[]*http.Request) awstest.RoundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		*seen = append(*seen, r)
		if r.Body != nil {
			r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	}
}

// bearerOf returns the token of a request, or "".
func bearerOf(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// A request without a usable URL is not sent.
func TestTransportRefusesMalformedURLs(t *testing.T) {
	provider := newProvider(t, static(accessKeyID, secretKey, ""))
	for name, u := range map[string]*url.URL{
		"no URL":            nil,
		"empty URL":         {},
		"opaque URL":        {Scheme: "https", Opaque: "//bedrock-runtime.us-east-1.amazonaws.com"},
		"upper-case scheme": {Scheme: "HTTPS", Host: "bedrock-runtime.us-east-1.amazonaws.com"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []*http.Request
			_, err := provider.Transport(answer(&seen)).RoundTrip(&http.Request{URL: u})
			if !errors.Is(err, bedrocktoken.ErrEndpoint) || len(seen) != 0 {
				t.Errorf("%d requests sent, error %v, want ErrEndpoint", len(seen), err)
			}
		})
	}
}

// newWorld starts a TLS server for each of names, all with the same handler, and
// returns a transport to which they, and no others, are known by these names. It
// calls dialed before each connection.
func newWorld(t *testing.T, handler http.Handler, dialed func(name string), names ...string) *http.Transport {
	t.Helper()
	certificate := awstest.Certificate(t, names...)
	var transport *http.Transport
	addresses := map[string]string{}
	for _, name := range names {
		server := httptest.NewUnstartedServer(handler)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
		server.StartTLS()
		t.Cleanup(server.Close)
		addresses[name] = server.Listener.Addr().String()
		transport = server.Client().Transport.(*http.Transport) // which trusts the certificate
	}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		name, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		name = strings.ToLower(name)
		dialed(name)
		return new(net.Dialer).DialContext(ctx, network, addresses[name])
	}
	return transport
}

// A redirect is followed to no other hosts than requests are sent to. The servers
// are real.
func TestTransportChecksRedirects(t *testing.T) {
	const (
		runtime   = "bedrock-runtime.us-east-1.amazonaws.com"
		mantle    = "bedrock-mantle.us-east-1.api.aws"
		elsewhere = "bedrock-runtime.us-west-2.amazonaws.com"
		bucket    = "bedrock.us-east-1.s3.amazonaws.com"
		gateway   = "gateway.example"
		stranger  = "stranger.example"
	)
	tests := map[string]struct {
		hops []string
		want error // for the last hop; all before it arrive
	}{
		"none":                            {[]string{"https://" + runtime}, nil},
		"same host":                       {[]string{"https://" + runtime, "https://" + runtime + "/a", "https://" + runtime + ":8443/b"}, nil},
		"another endpoint, a given host":  {[]string{"https://" + runtime, "https://" + mantle, "https://" + gateway + ":8443", "https://" + runtime}, nil},
		"another region":                  {[]string{"https://" + runtime, "https://" + elsewhere}, bedrocktoken.ErrRegion},
		"plain HTTP":                      {[]string{"https://" + runtime, "http://" + runtime}, bedrocktoken.ErrEndpoint},
		"plain HTTP on the port of HTTPS": {[]string{"https://" + runtime, "http://" + runtime + ":443"}, bedrocktoken.ErrEndpoint},
		"plain HTTP to a given host":      {[]string{"https://" + gateway, "http://" + gateway}, bedrocktoken.ErrEndpoint},
		"a bucket":                        {[]string{"https://" + runtime, "https://" + bucket}, bedrocktoken.ErrEndpoint},
		"a stranger":                      {[]string{"https://" + runtime, "https://" + stranger}, bedrocktoken.ErrEndpoint},
		"a stranger, from a given host":   {[]string{"https://" + gateway, "https://" + stranger + "/path"}, bedrocktoken.ErrEndpoint},
		"a stranger, after others":        {[]string{"https://" + runtime, "https://" + mantle, "https://" + stranger + ":8443"}, bedrocktoken.ErrEndpoint},
		"a stranger with Bedrock as user": {[]string{"https://" + runtime, "https://" + runtime + "@" + stranger}, bedrocktoken.ErrEndpoint},
		"a stranger, without a scheme":    {[]string{"https://" + runtime, "//" + stranger}, bedrocktoken.ErrEndpoint},
		"a stranger, to begin with":       {[]string{"https://" + stranger}, bedrocktoken.ErrEndpoint},
		"a stranger in another spelling":  {[]string{"https://" + runtime, "https://STRANGER.example"}, bedrocktoken.ErrEndpoint},
		"Bedrock in another spelling":     {[]string{"https://" + runtime, "https://Bedrock-Mantle.US-EAST-1.api.aws"}, nil},
		"a look-alike of Bedrock":         {[]string{"https://" + runtime, "https://bedroc%E2%84%AA-runtime.us-east-1.amazonaws.com"}, bedrocktoken.ErrEndpoint},
	}

	var mu sync.Mutex // guards what follows
	var hops, dialed []string
	var arrived []*http.Request
	base := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil || string(sent) != "body" {
			t.Errorf("%s: read %q and error %v", r.Host, sent, err)
		}
		mu.Lock()
		defer mu.Unlock()
		arrived = append(arrived, r)
		if len(arrived) < len(hops) {
			w.Header().Set("Location", hops[len(arrived)])
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}), func(name string) {
		mu.Lock()
		defer mu.Unlock()
		dialed = append(dialed, name)
	}, runtime, mantle, elsewhere, bucket, gateway, stranger)
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(base, gateway)}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base.CloseIdleConnections()
			mu.Lock()
			hops, dialed, arrived = test.hops, nil, nil
			mu.Unlock()
			request, err := http.NewRequest("POST", test.hops[0], strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Api-Key", "stale")
			response, err := client.Do(request)
			if err == nil {
				response.Body.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			want := len(test.hops)
			if test.want != nil {
				want--
			}
			if (err == nil) != (test.want == nil) || !errors.Is(err, test.want) || len(arrived) != want {
				t.Errorf("%d requests arrived, want %d; error %v, want %v", len(arrived), want, err, test.want)
			}
			for _, r := range arrived {
				acceptStatic(t, bearerOf(r))
				if r.Header.Get("X-Api-Key") != "" {
					t.Errorf("%s: another key arrived", r.Host)
				}
			}
			for _, name := range dialed {
				if name != runtime && name != mantle && name != gateway {
					t.Errorf("%s was dialed", name)
				}
			}
		})
	}
}

// A request that is sent has one Authorization header, with the token, and no
// x-api-key, however they were spelled. The caller's request does not change.
func TestTransportReplacesKeys(t *testing.T) {
	rest := http.Header{
		"X-Other": {"one", "two"}, "x-lower": {"kept"}, "Cookie": {"a=b"}, "Anthropic-Version": {"2023-06-01"}, "Proxy-Authorization": {"Basic kept"},
		"X-Amz-Security-Token": {"kept"}, "Api-Key": {"kept"}, "X-Api-Keys": {"kept"}, "X-Authorization": {"kept"},
	}
	tests := map[string]struct{ header, rest http.Header }{
		"none":                      {nil, http.Header{}},
		"others":                    {rest, rest},
		"Authorization":             {http.Header{"Authorization": {"Bearer stale"}}, http.Header{}},
		"Authorization, two values": {http.Header{"Authorization": {"Bearer stale", "Basic stale"}}, http.Header{}},
		"Authorization, misspelt":   {http.Header{"authorization": {"Bearer stale"}, "AUTHORIZATION": {"stale"}, "authoRization": nil}, http.Header{}},
		"X-Api-Key":                 {http.Header{"X-Api-Key": {"stale", "stale"}}, http.Header{}},
		"X-Api-Key, misspelt":       {http.Header{"x-api-key": {"stale"}, "X-API-KEY": {"stale"}, "X-Api-key": {}}, http.Header{}},
		"all": {
			http.Header{"Authorization": {"stale"}, "authorization": {"stale"}, "X-Api-Key": {"stale"}, "x-Api-Key": {"stale"}, "X-Other": {"kept"}},
			http.Header{"X-Other": {"kept"}},
		},
	}
	var seen []*http.Request
	rt := newProvider(t, static(accessKeyID, secretKey, "")).Transport(answer(&seen))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			seen = nil
			sent := &body{Reader: strings.NewReader("x")}
			request := &http.Request{Method: "POST", URL: &url.URL{Scheme: "http", Host: "localhost"}, Header: test.header.Clone(), Body: sent}
			before := *request
			response, err := rt.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			got := maps.Clone(seen[0].Header)
			if len(got["Authorization"]) != 1 {
				t.Fatalf("Authorization is %q", got["Authorization"])
			}
			acceptStatic(t, bearerOf(seen[0]))
			delete(got, "Authorization")
			if !reflect.DeepEqual(got, test.rest) {
				t.Errorf("besides there are %v, want %v", got, test.rest)
			}
			if !reflect.DeepEqual(*request, before) || !reflect.DeepEqual(request.Header, test.header) {
				t.Errorf("the caller's request has changed: %+v", request)
			}
			if response.Request != request {
				t.Error("the response shows another request than the caller's, token and all")
			}
			if seen[0].Body != sent || sent.closed != 1 {
				t.Errorf("the body was wrapped, or closed %d times", sent.closed)
			}
		})
	}

	t.Run("user in the URL", func(t *testing.T) { // of which http.Client makes a header
		seen = nil
		response, err := (&http.Client{Transport: rt}).Get("http://user:password@localhost")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		acceptStatic(t, bearerOf(seen[0]))
	})

	t.Run("nested", func(t *testing.T) {
		seen = nil
		other := newProvider(t, static("AKIAOTHER", "other", sessionToken))
		request := httptest.NewRequest("GET", runtimeURL, nil)
		response, err := other.Transport(rt).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(seen[0].Header["Authorization"]); n != 1 || response.Request != request {
			t.Errorf("%d tokens; or the response shows another request than the caller's", n)
		}
		acceptStatic(t, bearerOf(seen[0])) // the inner one's
	})
}

// Everything else in a request, a response and an error is left as it was.
func TestTransportChangesNothingElse(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "PATCH", runtimeURL+"/a%2Fb?c=d#e", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "host.example"
	via := [2]string{"caller"}
	request.Header["Via"] = via[:1]
	request.Trailer = http.Header{"X-Checksum": nil}
	errBase := errors.New("half an answer")
	answer := &http.Response{
		Status: "299 Odd", StatusCode: 299, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"Set-Cookie": {"a=b"}}, Body: io.NopCloser(strings.NewReader("answer")),
		ContentLength: 6, Uncompressed: true, Trailer: http.Header{"X-Checksum": nil},
	}
	want := *answer
	want.Request = request
	rt := newProvider(t, static(accessKeyID, secretKey, "")).Transport(awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		want := request.WithContext(ctx)
		want.Header = http.Header{"Authorization": r.Header["Authorization"], "Via": {"caller"}}
		gotGetBody, wantGetBody := r.GetBody, want.GetBody
		got := r.WithContext(ctx)
		got.GetBody, want.GetBody = nil, nil // which cannot be compared
		if !reflect.DeepEqual(got, want) || (gotGetBody == nil) != (wantGetBody == nil) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if r.Header.Add("Via", "base"); via[1] != "" {
			t.Error("what base adds to a header is written into the caller's array")
		}
		cancel()
		if r.Context().Err() == nil || r.Context().Value(key{}) != "value" {
			t.Error("another context")
		}
		request.Trailer.Set("X-Checksum", "set while the body is read")
		if r.Trailer.Get("X-Checksum") == "" {
			t.Error("the trailer was copied before it was set")
		}
		return answer, errBase
	}))
	got, err := rt.RoundTrip(request)
	if err != errBase || got != answer {
		t.Errorf("got %p and error %v, want %p and %v", got, err, answer, errBase)
	}
	if !reflect.DeepEqual(*answer, want) {
		t.Errorf("the response has become %+v, want %+v", answer, want)
	}
}

// The errors of the source and of the base are wrapped, and the body of a request is
// closed once whatever happens.
func TestTransportErrors(t *testing.T) {
	t.Run("of the source", func(t *testing.T) {
		failing := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errRefused })
		var seen []*http.Request
		client := &http.Client{Transport: newProvider(t, failing).Transport(answer(&seen))}
		sent := &body{Reader: strings.NewReader("x")}
		if _, err := client.Post(runtimeURL, "", sent); !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.Is(err, errRefused) {
			t.Errorf("error is %v, want ErrCredentials around the source's", err)
		}
		if _, err := client.Get(runtimeURL); !errors.Is(err, bedrocktoken.ErrCredentials) { // without a body
			t.Errorf("error is %v, want ErrCredentials", err)
		}
		if len(seen) != 0 || sent.closed != 1 {
			t.Errorf("%d requests sent; body closed %d times", len(seen), sent.closed)
		}
	})
	t.Run("of the base", func(t *testing.T) {
		errBase := errors.New("no route")
		base := awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) { r.Body.Close(); return nil, errBase })
		sent := &body{Reader: strings.NewReader("x")}
		_, err := (&http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(base)}).Post(runtimeURL, "", sent)
		if !errors.Is(err, errBase) || sent.closed != 1 {
			t.Errorf("error is %v; body closed %d times", err, sent.closed)
		}
		if strings.Contains(err.Error(), "bedrock-api-key") {
			t.Errorf("the error shows the token: %v", err)
		}
	})
}

// A request whose context ends during the wait for credentials returns the error
// that net/http returns.
func TestTransportContextEndsWait(t *testing.T) {
	tests := map[string]struct {
		limit   time.Duration // of http.Client
		context func(context.Context) (context.Context, context.CancelFunc)
		want    error
		timeout bool
	}{
		"deadline": {
			context: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			},
			want: context.DeadlineExceeded, timeout: true,
		},
		"cancel": {
			context: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			},
			want: context.Canceled,
		},
		"http.Client.Timeout": {
			limit: time.Second, context: context.WithCancel,
			want: context.DeadlineExceeded, timeout: true,
		},
		"deadline before http.Client.Timeout": {
			limit: time.Minute, context: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			},
			want: context.DeadlineExceeded, timeout: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { // ignores its context
					<-release
					return aws.Credentials{}, errRefused
				}))
				var seen []*http.Request
				client := &http.Client{Transport: provider.Transport(answer(&seen)), Timeout: test.limit}
				ctx, cancel := test.context(t.Context())
				defer cancel()
				sent := &body{Reader: strings.NewReader("x")}
				request, err := http.NewRequestWithContext(ctx, "POST", runtimeURL, sent)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				_, err = client.Do(request)
				var urlError *url.Error
				if !errors.As(err, &urlError) || !errors.Is(err, test.want) || urlError.Timeout() != test.timeout || errors.Is(err, bedrocktoken.ErrCredentials) {
					t.Errorf("error is %v, want %v, and Timeout() %v", err, test.want, test.timeout)
				}
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("waited for %v, want 1s", waited)
				}
				if len(seen) != 0 || sent.closed != 1 {
					t.Errorf("%d requests sent; body closed %d times", len(seen), sent.closed)
				}
			})
		})
	}
}

// protocols runs test over HTTP/1 and HTTP/2.
func protocols(t *testing.T, test func(t *testing.T, serve func(http.Handler) *httptest.Server)) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			test(t, func(handler http.Handler) *httptest.Server {
				server := httptest.NewUnstartedServer(handler)
				server.EnableHTTP2 = http2
				server.StartTLS()
				t.Cleanup(server.Close)
				return server
			})
		})
	}
}

// The trailers of request and response arrive, announced or not.
func TestTransportPassesTrailers(t *testing.T) {
	protocols(t, func(t *testing.T, serve func(http.Handler) *httptest.Server) {
		for _, prefix := range []string{"", http.TrailerPrefix} {
			server := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil || r.Trailer.Get("X-Checksum") != "sent" {
					t.Errorf("the request's trailer is %v; error %v", r.Trailer, err)
				}
				if prefix == "" {
					w.Header().Set("Trailer", "X-Status")
				}
				io.WriteString(w, "answer")
				http.NewResponseController(w).Flush()
				w.Header().Set(prefix+"X-Status", "done")
			}))
			client := &http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(server.Client().Transport)}
			reader, writer := io.Pipe()
			request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL, reader)
			if err != nil {
				t.Fatal(err)
			}
			request.Trailer = http.Header{"X-Checksum": nil}
			go func() {
				io.WriteString(writer, "question")
				request.Trailer.Set("X-Checksum", "sent")
				writer.Close()
			}()
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if got, err := io.ReadAll(response.Body); err != nil || string(got) != "answer" {
				t.Errorf("%q: read %q and error %v", prefix, got, err)
			}
			if want := (http.Header{"X-Status": {"done"}}); !reflect.DeepEqual(response.Trailer, want) {
				t.Errorf("%q: the response's trailer is %v, want %v", prefix, response.Trailer, want)
			}
		}
	})
}

// proxied starts a server that plays Bedrock and, in front of it, a proxy that
// adds the token.
func proxied(t *testing.T, serve func(http.Handler) *httptest.Server, bedrock http.HandlerFunc) (proxy *httptest.Server) {
	t.Helper()
	tokens := make(chan string, 1)
	above := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens <- bearerOf(r)
		bedrock(w, r)
	}))
	t.Cleanup(func() {
		select {
		case token := <-tokens:
			acceptStatic(t, token)
		default:
			t.Error("no request arrived")
		}
	})
	target, err := url.Parse(above.URL)
	if err != nil {
		t.Fatal(err)
	}
	return serve(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(above.Client().Transport),
		ErrorLog:  log.New(io.Discard, "", 0), // of clients that go away
	})
}

// post sends a request that ends with the test, or before it hangs.
func post(t *testing.T, server *httptest.Server, body io.Reader) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "POST", server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Te", "trailers")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// A ReverseProxy with this transport passes on events one by one, the end of a
// client, trailers and large bodies.
func TestTransportInReverseProxy(t *testing.T) {
	protocols(t, func(t *testing.T, serve func(http.Handler) *httptest.Server) {
		t.Run("events, one by one", func(t *testing.T) {
			seen := make(chan int, 20)
			proxy := proxied(t, serve, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for n := range 20 {
					fmt.Fprintf(w, "data: %d\n\n", n)
					http.NewResponseController(w).Flush()
					select {
					case got := <-seen:
						if got != n {
							t.Errorf("the client has seen event %d, want %d", got, n)
						}
					case <-r.Context().Done():
						return
					}
				}
			})
			lines, events := bufio.NewScanner(post(t, proxy, nil).Body), 0
			for lines.Scan() {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					n, err := strconv.Atoi(data)
					if err != nil {
						t.Error(err)
					}
					seen <- n
					events++
				}
			}
			if err := lines.Err(); err != nil || events != 20 {
				t.Errorf("%d events and error %v", events, err)
			}
		})

		t.Run("a client that goes away", func(t *testing.T) {
			gone := make(chan error, 1)
			proxy := proxied(t, serve, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "x")
				http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					gone <- nil
				case <-time.After(10 * time.Second):
					gone <- errors.New("the request above goes on")
				}
			})
			response := post(t, proxy, nil)
			if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			response.Body.Close()
			if err := <-gone; err != nil {
				t.Error(err)
			}
		})

		t.Run("trailers as of gRPC", func(t *testing.T) {
			proxy := proxied(t, serve, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/grpc")
				w.Write([]byte{0, 0, 0, 0, 0})
				http.NewResponseController(w).Flush()
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
				w.Header().Set(http.TrailerPrefix+"Grpc-Message", "OK")
			})
			response := post(t, proxy, strings.NewReader("question"))
			if got, err := io.ReadAll(response.Body); err != nil || len(got) != 5 {
				t.Errorf("read %q and error %v", got, err)
			}
			if want := (http.Header{"Grpc-Status": {"0"}, "Grpc-Message": {"OK"}}); !reflect.DeepEqual(response.Trailer, want) {
				t.Errorf("the trailer is %v, want %v", response.Trailer, want)
			}
		})
	})

	t.Run("20 MiB each way", func(t *testing.T) {
		data := make([]byte, 20<<20)
		rand.NewChaCha8([32]byte{}).Read(data)
		check := func(where string, body io.Reader) {
			got := make([]byte, len(data)+1)
			if n, err := io.ReadFull(body, got); err != io.ErrUnexpectedEOF || !bytes.Equal(got[:n], data) {
				t.Errorf("%s: %d bytes, or others; error %v", where, n, err)
			}
		}
		proxy := proxied(t, httptest.NewServer, func(w http.ResponseWriter, r *http.Request) {
			check("above", r.Body)
			w.Write(data)
		})
		check("below", post(t, proxy, bytes.NewReader(data)).Body)
	})
}

// serve starts a server, and returns a transport whose every connection is to it.
func serve(t *testing.T, handler http.Handler) *http.Transport {
	listener := make(awstest.Listener)
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	transport := &http.Transport{DialContext: listener.DialContext, MaxIdleConnsPerHost: 1000}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return transport
}

// Each of 200 callers that share a proxy is served while the credentials are
// renewed, and every token that arrives is valid.
func TestTransportDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			time.Sleep(300 * time.Millisecond)
			return authority.Issue(time.Hour), nil
		}))
		var mu sync.Mutex
		signers := map[string]int{}
		above := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			verified, err := authority.verify(bearerOf(r))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			signers[verified.AccessKeyID]++
			mu.Unlock()
			io.Copy(w, r.Body)
		}))
		below := serve(t, &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "localhost"}) },
			Transport: provider.Transport(above),
		})
		client := &http.Client{Transport: below}
		var callers sync.WaitGroup
		for caller := range 200 {
			callers.Go(func() {
				for n := range 2 { // at the start, and around the renewal
					time.Sleep(time.Duration(n)*(55*time.Minute-time.Second) + time.Duration(caller)*10*time.Millisecond)
					question := fmt.Sprintf("%d of %d", n, caller)
					response, err := client.Post("http://localhost", "", strings.NewReader(question))
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := io.ReadAll(response.Body); err != nil || string(got) != question {
						t.Errorf("read %q and error %v, want %q", got, err, question)
					}
					response.Body.Close()
				}
			})
		}
		callers.Wait()
		total := 0
		for _, n := range signers {
			total += n
		}
		if total != 400 || len(signers) < 2 {
			t.Errorf("%d requests arrived, want 400; by credentials: %v", total, signers)
		}
		time.Sleep(2 * time.Minute) // for a renewal that is under way
	})
}

// Bodies can stream both ways at the same time. The server is real, and the base the
// default.
func TestTransportStreamsBothWays(t *testing.T) {
	tokens := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens <- bearerOf(r)
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		buffer := make([]byte, 1)
		for {
			if _, err := r.Body.Read(buffer); err != nil {
				return
			}
			w.Write(buffer)
			control.Flush()
		}
	}))
	defer server.Close()
	client := &http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(nil)}
	defer client.CloseIdleConnections()
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL, reader)
	if err != nil {
		t.Fatal(err)
	}
	go writer.Write([]byte("a"))
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	acceptStatic(t, <-tokens)
	for _, letter := range []byte("abc") {
		if letter != 'a' {
			go writer.Write([]byte{letter})
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(response.Body, got); err != nil || got[0] != letter {
			t.Fatalf("read %q and error %v, want %q", got, err, letter)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) != 0 {
		t.Errorf("read %q and error %v at the end", rest, err)
	}
}

type idle struct {
	awstest.RoundTripFunc
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

// http.Client.CloseIdleConnections reaches the base.
func TestTransportClosesIdleConnections(t *testing.T) {
	provider := newProvider(t, static(accessKeyID, secretKey, ""))
	base := new(idle)
	(&http.Client{Transport: provider.Transport(base)}).CloseIdleConnections()
	(&http.Client{Transport: provider.Transport(provider.Transport(base))}).CloseIdleConnections()
	if base.closed != 2 {
		t.Errorf("closed %d times, want 2", base.closed)
	}
	(&http.Client{Transport: provider.Transport(awstest.RoundTripFunc(nil))}).CloseIdleConnections() // nothing to call
}
