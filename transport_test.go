package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A body records what is done with it.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

// answer returns a RoundTripper that does what http.Transport does: closes the
// body, and points the response at the request.
func answer(seen *[]*http.Request) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		*seen = append(*seen, r)
		if r.Body != nil {
			r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	}
}

// bearer returns the token of a request, or "".
func bearerOf(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

func TestTransport(t *testing.T) {
	var seen []*http.Request
	rt := newProvider(t, static(accessKeyID, secretKey, sessionToken)).Transport(answer(&seen))
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}

	for name, header := range map[string]http.Header{
		"no header":  nil,
		"others":     {"X-Other": {"kept"}},
		"one of old": {"Authorization": {"Bearer stale"}, "X-Other": {"kept"}},
		"two of old": {"Authorization": {"Bearer stale", "Basic stale"}},
		"misspelt":   {"authorization": {"Bearer stale"}, "AUTHORIZATION": {"Bearer stale"}, "X-Other": {"kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			sent := &body{Reader: strings.NewReader("x")}
			request := &http.Request{Method: "POST", URL: &url.URL{Scheme: "https", Host: "bedrock-runtime.us-east-1.amazonaws.com"}, Header: header.Clone(), Body: sent}
			response, err := rt.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			if values := seen[0].Header.Values("Authorization"); len(values) != 1 {
				t.Fatalf("%d Authorization headers", len(values))
			}
			accept(t, bearerOf(seen[0]), region, creds)
			rest := seen[0].Header.Clone()
			rest.Del("Authorization")
			if want := (http.Header{"X-Other": header["X-Other"]}); len(header["X-Other"]) > 0 && !reflect.DeepEqual(rest, want) || len(header["X-Other"]) == 0 && len(rest) > 0 {
				t.Errorf("other headers are %v", rest)
			}
			if seen[0].Body != sent {
				t.Error("the body has been wrapped")
			}
			if fmt.Sprint(request.Header) != fmt.Sprint(header) || request == seen[0] {
				t.Errorf("the caller's request has changed: %v", request.Header)
			}
			if response.Request != request {
				t.Error("the response shows another request than the caller's, token and all")
			}
			if sent.closed != 1 {
				t.Errorf("the body was closed %d times", sent.closed)
			}
		})
	}
}

// All that a request and a response have besides is left as it was.
func TestTransportLeavesTheRest(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "PATCH", "https://example.com/a%2Fb?c=d#e", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "host.example"
	request.Trailer = http.Header{"X-Checksum": nil}
	errBase := errors.New("half an answer")
	answer := &http.Response{
		Status: "299 Odd", StatusCode: 299, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"Set-Cookie": {"a=b"}}, Body: io.NopCloser(strings.NewReader("answer")),
		ContentLength: 6, Uncompressed: true, Trailer: http.Header{"X-Checksum": nil},
	}
	rt := newProvider(t, static(accessKeyID, secretKey, "")).Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		want := request.WithContext(ctx)
		want.Header = http.Header{"Authorization": r.Header["Authorization"]}
		gotGetBody, wantGetBody := r.GetBody, want.GetBody
		got := r.WithContext(ctx)
		got.GetBody, want.GetBody = nil, nil // which cannot be compared
		if !reflect.DeepEqual(got, want) || (gotGetBody == nil) != (wantGetBody == nil) {
			t.Errorf("got %+v, want %+v", got, want)
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
	want := *answer
	want.Request = request
	got, err := rt.RoundTrip(request)
	if err != errBase || !reflect.DeepEqual(got, &want) {
		t.Errorf("got %+v and error %v, want %+v and %v", got, err, &want, errBase)
	}
	if answer.Request != nil {
		t.Error("the base's response has changed")
	}
}

// Every request is signed for itself.
func TestTransportFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []*http.Request
		var authority authority
		provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return authority.issue(time.Hour), nil }))
		client := &http.Client{Transport: provider.Transport(answer(&seen))}
		for range 3 {
			if _, err := client.Get("https://example.com"); err != nil {
				t.Fatal(err)
			}
			if _, err := authority.verify(bearerOf(seen[len(seen)-1])); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestTransportScheme(t *testing.T) {
	good := []string{
		"https://bedrock-runtime.us-east-1.amazonaws.com", "https://10.0.0.1", "https://example.com:8443", "https://user:password@example.com",
		"http://localhost", "http://LOCALHOST:8080", "http://127.0.0.1:4566", "http://127.8.9.10", "http://[::1]", "http://[::1]:80", "http://[::ffff:127.0.0.1]",
	}
	bad := []string{
		"http://bedrock-runtime.us-east-1.amazonaws.com", "http://10.0.0.1", "http://0.0.0.0", "http://[::]", "http://128.0.0.1",
		"http://localhost.example.com", "http://foo.localhost", "http://printer.local", "http://169.254.169.254", "http://localho\u017ft", "http://loc\u0430lhost", "http://127.0.0.1.example.com", "http://127.1", "http://localhost.", "http://user:password@example.com:80/path?query", "http://",
		"https:", "https:///path", "https:opaque", "ftp://localhost", "ws://localhost", "//example.com", "/path", "",
	}
	for _, address := range append(good, bad...) {
		t.Run(address, func(t *testing.T) {
			target, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			var seen []*http.Request
			source := &source{retrieve: func(context.Context) (aws.Credentials, error) { return new(authority).issue(time.Hour), nil }}
			sent := &body{Reader: strings.NewReader("x")}
			_, err = newProvider(t, source).Transport(answer(&seen)).RoundTrip(&http.Request{Method: "POST", URL: target, Body: sent})
			want := 0
			for _, g := range good {
				if g == address {
					want = 1
				}
			}
			if len(seen) != want || (err == nil) != (want == 1) || int(source.calls.Load()) != want {
				t.Errorf("%d requests sent, %d retrievals, error %v", len(seen), source.calls.Load(), err)
			}
			if err != nil && (strings.Contains(err.Error(), "user") || strings.Contains(err.Error(), "path") || !strings.Contains(err.Error(), "https")) {
				t.Errorf("error is %q", err)
			}
			if sent.closed != 1 {
				t.Errorf("the body was closed %d times", sent.closed)
			}
		})
	}
	t.Run("no URL", func(t *testing.T) {
		var seen []*http.Request
		if _, err := newProvider(t, static(accessKeyID, secretKey, "")).Transport(answer(&seen)).RoundTrip(&http.Request{}); err == nil || len(seen) != 0 {
			t.Errorf("%d requests sent, error %v", len(seen), err)
		}
	})
}

func TestTransportRedirects(t *testing.T) {
	const origin = "https://origin.example"
	tests := map[string]struct {
		hops []string
		want string // for each hop, whether it has the token
	}{
		"none":                        {[]string{origin}, "y"},
		"within the origin":           {[]string{origin, origin + "/a", origin + "/b?x=y"}, "yyy"},
		"spelled otherwise":           {[]string{origin, "https://ORIGIN.example:443/a", origin + "/b"}, "yyy"},
		"away":                        {[]string{origin, "https://other.example"}, "yn"},
		"two in a row":                {[]string{origin, "https://other.example", "https://third.example"}, "ynn"},
		"within another":              {[]string{origin, "https://other.example", "https://other.example/a"}, "ynn"},
		"away and back":               {[]string{origin, "https://other.example", origin + "/a"}, "yny"},
		"spelled like the origin":     {[]string{"https://origin.example", "https://or\u0130gin.example", "https://or%C4%B0gin.example/x", "https://\u212arigin.example"}, "ynnn"},
		"six hops":                    {[]string{origin, "https://other.example/1", "https://other.example/2", "https://other.example/3", "https://other.example/4", "https://other.example/5", origin + "/6"}, "ynnnnny"},
		"as many as a client follows": {[]string{origin, "https://other.example/1", "https://other.example/2", "https://other.example/3", "https://other.example/4", "https://other.example/5", "https://other.example/6", "https://other.example/7", "https://other.example/8", origin + "/9"}, "ynnnnnnnny"},
		"port of HTTP":                {[]string{"http://127.0.0.1", "http://127.0.0.1:80/a", "http://127.0.0.1:8080/a"}, "yyn"},
		"away, back and away":         {[]string{origin, "https://other.example", origin + "/a", "https://other.example/a"}, "ynyn"},
		"subdomain":                   {[]string{origin, "https://sub.origin.example"}, "yn"},
		"parent domain":               {[]string{"https://sub.origin.example", origin}, "yn"},
		"port":                        {[]string{origin, "https://origin.example:8443"}, "yn"},
		"scheme":                      {[]string{origin, "http://origin.example"}, "yn"},
		"scheme, on the port":         {[]string{origin, "http://origin.example:443"}, "yn"},
		"user":                        {[]string{origin, "https://user@other.example"}, "yn"},
		"origin in the user's place":  {[]string{origin, "https://origin.example@other.example"}, "yn"},
		"loopback to another port":    {[]string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, "yn"},
		"loopback by another name":    {[]string{"http://127.0.0.1:1", "http://localhost:1"}, "yn"},
	}
	for name, test := range tests {
		// Some RoundTrippers forget to say which request a response is for.
		for _, forgetful := range []bool{false, true} {
			for old, nested := range map[string]bool{"": false, "Bearer stale": true} {
				t.Run(fmt.Sprint(name, forgetful, nested), func(t *testing.T) {
					var got strings.Builder
					var first string
					base := roundTripper(func(r *http.Request) (*http.Response, error) {
						if r.Body != nil {
							r.Body.Close()
						}
						hop := got.Len()
						token := bearerOf(r)
						switch {
						case hop == 0:
							first = token
							fallthrough
						case token != "" && token == first:
							got.WriteByte('y')
						case r.Header.Get("Authorization") == "":
							got.WriteByte('n')
						default:
							got.WriteByte('?')
						}
						response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}
						if hop+1 < len(test.hops) {
							response.StatusCode = http.StatusTemporaryRedirect
							response.Header.Set("Location", test.hops[hop+1])
						}
						if !forgetful {
							response.Request = r
						}
						return response, nil
					})
					synctest.Test(t, func(t *testing.T) { // so that the clock stands still, and tokens with it
						provider := newProvider(t, static(accessKeyID, secretKey, ""))
						client := &http.Client{Transport: provider.Transport(base)}
						if nested {
							client.Transport = provider.Transport(client.Transport)
						}
						request, err := http.NewRequest("POST", test.hops[0], strings.NewReader("x"))
						if err != nil {
							t.Fatal(err)
						}
						if old != "" {
							request.Header.Set("Authorization", old)
						}
						response, err := client.Do(request)
						if err != nil {
							t.Fatal(err)
						}
						response.Body.Close()
						if got.String() != test.want {
							t.Errorf("token sent: %s, want %s", got.String(), test.want)
						}
						accept(t, first, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
					})
				})
			}
		}
	}
}

// A request whose history cannot be told does not get the token.
func TestTransportUnknownHistory(t *testing.T) {
	circular := &http.Request{URL: &url.URL{Scheme: "https", Host: "example.com"}}
	circular.Response = &http.Response{Request: circular}
	for name, request := range map[string]*http.Request{
		"forgotten": {URL: &url.URL{Scheme: "https", Host: "example.com"}, Response: &http.Response{}},
		"circular":  circular,
	} {
		t.Run(name, func(t *testing.T) {
			var seen []*http.Request
			if _, err := newProvider(t, static(accessKeyID, secretKey, "")).Transport(answer(&seen)).RoundTrip(request); err != nil {
				t.Fatal(err)
			}
			if seen[0].Header.Get("Authorization") != "" {
				t.Error("the token was sent")
			}
		})
	}
}

func TestTransportErrors(t *testing.T) {
	var seen []*http.Request
	failing := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errOutage })
	client := &http.Client{Transport: newProvider(t, failing).Transport(answer(&seen))}
	for name, method := range map[string]string{"with a body": "POST", "without": "GET"} {
		t.Run(name, func(t *testing.T) {
			sent := &body{Reader: strings.NewReader("x")}
			request, err := http.NewRequest(method, "https://example.com", sent)
			if err != nil {
				t.Fatal(err)
			}
			if method == "GET" {
				request.Body, sent.closed = nil, 1
			}
			response, err := client.Do(request)
			if response != nil || !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.Is(err, errOutage) {
				t.Errorf("error is %v, want ErrCredentials around the source's", err)
			}
			if len(seen) != 0 || sent.closed != 1 {
				t.Errorf("%d requests sent; body closed %d times", len(seen), sent.closed)
			}
		})
	}
	t.Run("of the base", func(t *testing.T) {
		errBase := errors.New("no route")
		base := roundTripper(func(r *http.Request) (*http.Response, error) { r.Body.Close(); return nil, errBase })
		sent := &body{Reader: strings.NewReader("x")}
		_, err := (&http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(base)}).Post("https://example.com", "", sent)
		if !errors.Is(err, errBase) || sent.closed != 1 {
			t.Errorf("error is %v; body closed %d times", err, sent.closed)
		}
		if strings.Contains(err.Error(), "bedrock-api-key") {
			t.Errorf("the error shows the token: %v", err)
		}
	})
}

func TestTransportCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			<-release
			return aws.Credentials{}, errOutage
		}))
		var seen []*http.Request
		client := &http.Client{Transport: provider.Transport(answer(&seen))}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent := &body{Reader: strings.NewReader("x")}
		request, err := http.NewRequestWithContext(ctx, "POST", "https://example.com", sent)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = client.Do(request)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("error %v after %v, want DeadlineExceeded after 1s", err, time.Since(start))
		}
		if len(seen) != 0 || sent.closed != 1 {
			t.Errorf("%d requests sent; body closed %d times", len(seen), sent.closed)
		}
	})
}

type idle struct {
	roundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

func TestTransportIdleConnections(t *testing.T) {
	provider := newProvider(t, static(accessKeyID, secretKey, ""))
	base := new(idle)
	(&http.Client{Transport: provider.Transport(base)}).CloseIdleConnections()
	(&http.Client{Transport: provider.Transport(provider.Transport(base))}).CloseIdleConnections()
	if base.closed != 2 {
		t.Errorf("closed %d times, want 2", base.closed)
	}
	(&http.Client{Transport: provider.Transport(roundTripper(nil))}).CloseIdleConnections() // nothing to call
}

// Against a real server: the default base, and bodies that stream both ways at
// the same time.
func TestTransportStreams(t *testing.T) {
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey}
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
	accept(t, <-tokens, region, creds)
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
