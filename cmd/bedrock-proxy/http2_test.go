package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// http2Only makes s ask with HTTP/2 in the clear, as the AWS SDK for JavaScript
// does, which does not fall back to HTTP/1.1.
func (s *site) http2Only() {
	s.client.Protocols = new(http.Protocols)
	s.client.Protocols.SetUnencryptedHTTP2(true)
}

// HTTP/2 in the clear is served, and refused as HTTP/1.1 is.
func TestHTTP2(t *testing.T) {
	for _, test := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"the key", "POST", "/v1/responses", []string{"X-Api-Key", proxyKey}, http.StatusOK},
		{"the key as a bearer token", "GET", "/mantle/v1/models", []string{"Authorization", "Bearer " + proxyKey}, http.StatusOK},
		{"this host", "GET", "/v1/models", []string{"X-Api-Key", proxyKey, "Host", "localhost:8484"}, http.StatusOK},
		{"this origin", "GET", "/v1/models", []string{"X-Api-Key", proxyKey, "Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		{"no key", "POST", "/v1/responses", nil, http.StatusUnauthorized},
		{"another key", "POST", "/v1/responses", []string{"X-Api-Key", callersOwn}, http.StatusUnauthorized},
		{"another host", "GET", "/v1/models", []string{"X-Api-Key", proxyKey, "Host", "evil.example"}, http.StatusForbidden},
		{"another host in a preflight", "OPTIONS", "/v1/models", []string{"X-Api-Key", proxyKey, "Host", "evil.example:8484"}, http.StatusForbidden},
		{"another site", "GET", "/v1/models", []string{"X-Api-Key", proxyKey, "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"another origin", "GET", "/v1/models", []string{"X-Api-Key", proxyKey, "Origin", "https://evil.example"}, http.StatusForbidden},
		{"an unknown path", "GET", "/mantleful/v1/models", []string{"X-Api-Key", proxyKey}, http.StatusNotFound},
		{"dot segments", "GET", "/mantle/%2e%2e/model/x", []string{"X-Api-Key", proxyKey}, http.StatusNotFound},
		{"TRACE", "TRACE", "/v1/models", []string{"X-Api-Key", proxyKey}, http.StatusBadRequest},
		{"CONNECT", "CONNECT", "", []string{"X-Api-Key", proxyKey}, http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, proxyKey, ok)
			s.http2Only()
			response := s.do(t, test.method, test.path, test.header...)
			if response.ProtoMajor != 2 {
				t.Error(response.Proto)
			}
			if test.status == http.StatusOK {
				s.served(t, response)
			} else {
				s.refused(t, response, test.status)
			}
		})
	}
}

// A tool that begins with HTTP/2 sends its body and gets its stream as others do.
func TestHTTP2Stream(t *testing.T) {
	const event = "data: {}\n\n"
	seen := make(chan struct{})
	s := newSite(t, "", func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
			t.Errorf("%q arrived, %v", body, err)
		}
		for range 3 {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	})
	s.http2Only()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/responses", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	buffer := make([]byte, len(event))
	for i := range 3 {
		if _, err := io.ReadFull(response.Body, buffer); err != nil || string(buffer) != event {
			t.Fatalf("event %d: %q, %v", i, buffer, err)
		}
		seen <- struct{}{}
	}
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// A link is the network between a proxy and Bedrock, both in one bubble of
// synctest. Its connections die when it is cut, and neither end is told.
type link struct {
	bedrock pipes
	dials   atomic.Int32

	mu  sync.Mutex
	cut context.Context // done when the connections of now are dead
	end context.CancelFunc
}

func newLink() *link {
	l := &link{bedrock: make(pipes)}
	l.cut, l.end = context.WithCancel(context.Background())
	return l
}

// kill cuts the connections that there are. New ones work.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	l.cut, l.end = context.WithCancel(context.Background())
}

func (l *link) dial(context.Context, string, string) (net.Conn, error) {
	l.dials.Add(1)
	l.mu.Lock()
	cut := l.cut
	l.mu.Unlock()
	client, near := net.Pipe()
	far, server := net.Pipe()
	l.bedrock <- server
	pass := func(to, from net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			switch {
			case cut.Err() != nil && err == nil: // what is sent is lost
			case cut.Err() != nil:
				return
			case err != nil:
				to.Close()
				return
			default:
				to.Write(buffer[:n])
			}
		}
	}
	go pass(near, far)
	go pass(far, near)
	return client, nil
}

// linked starts Bedrock and a proxy in a bubble of synctest, with link between them.
// The Transport is the program's own but for the way it connects.
func linked(t *testing.T, identity *httptest.Server, link *link, answer http.HandlerFunc) *http.Client {
	t.Helper()
	bedrock := &http.Server{Handler: answer, TLSConfig: &tls.Config{Certificates: identity.TLS.Certificates, NextProtos: []string{"h2"}}}
	ended := make(chan error, 2)
	go func() { ended <- bedrock.ServeTLS(link.bedrock, "", "") }()

	transport := newTransport()
	transport.DialContext = link.dial
	transport.Proxy = nil
	transport.TLSClientConfig = identity.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	listener := make(pipes)
	ctx, stop := context.WithCancel(context.Background())
	handler := newProxy(newProvider(t, &source{}), "", mustParse(t, "https://example.com"), "", transport)
	go func() { ended <- serve(ctx, listener, handler) }()

	caller := &http.Transport{DialContext: listener.dial}
	t.Cleanup(func() {
		caller.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
		bedrock.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &http.Client{Transport: caller}
}

// A connection to Bedrock whose path dies in silence is left within half a minute,
// although a stream and a call hang on it.
func TestDeadConnection(t *testing.T) {
	identity := httptest.NewTLSServer(http.NotFoundHandler())
	defer identity.Close()
	synctest.Test(t, func(t *testing.T) {
		link := newLink()
		client := linked(t, identity, link, func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Error(r.Proto)
			}
			switch r.URL.Path {
			case "/v1/stream":
				io.WriteString(w, "data: {}\n")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			case "/v1/slow":
				<-r.Context().Done()
			}
			ok(w, r)
		})
		stream, err := client.Post("http://localhost/v1/stream", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		reader := bufio.NewReader(stream.Body)
		if line, err := reader.ReadString('\n'); err != nil || line != "data: {}\n" {
			t.Fatalf("%q, %v", line, err)
		}
		call := func(path string) string {
			response, err := client.Post("http://localhost"+path, "application/json", strings.NewReader("{}"))
			if err != nil {
				return err.Error()
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			return fmt.Sprint(response.StatusCode, string(body), err)
		}
		hung := make(chan string, 2)
		go func() { hung <- call("/v1/slow") }()
		time.Sleep(time.Minute)
		if got := link.dials.Load(); got != 1 {
			t.Fatalf("%d connections", got)
		}

		link.kill()
		start := time.Now()
		go func() { hung <- call("/v1/late") }()
		if rest, err := io.ReadAll(reader); err == nil {
			t.Errorf("the stream seems complete after %q", rest)
		}
		for range 2 {
			if got := <-hung; !strings.HasPrefix(got, "502") {
				t.Errorf("a call got %s", got)
			}
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("found out after %v", took)
		}
		if got, want := call("/v1/models"), `200{"ok": true}<nil>`; got != want {
			t.Errorf("the next call got %s", got)
		}
		if got := link.dials.Load(); got != 2 {
			t.Errorf("%d connections, want 2", got)
		}
	})
}

// A model may think for as long as it likes: no stream is broken off for its silence.
func TestSilentStream(t *testing.T) {
	identity := httptest.NewTLSServer(http.NotFoundHandler())
	defer identity.Close()
	synctest.Test(t, func(t *testing.T) {
		link := newLink()
		client := linked(t, identity, link, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(time.Hour)
			ok(w, r)
		})
		response, err := client.Get("http://localhost/v1/responses")
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, response); body != `{"ok": true}` {
			t.Errorf("%s %s", response.Status, body)
		}
	})
}
