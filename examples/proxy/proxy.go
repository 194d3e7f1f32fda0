package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
)

// routes says by the beginning of a path which endpoint serves it.
var routes = []struct{ prefix, host string }{
	{"/model/", "bedrock-runtime.%s.amazonaws.com"},
	{"/openai/", "bedrock-runtime.%s.amazonaws.com"},
	{"/v1/", "bedrock-mantle.%s.api.aws"},
	{"/anthropic/", "bedrock-mantle.%s.api.aws"},
	{"/foundation-models", "bedrock.%s.amazonaws.com"},
	{"/inference-profiles", "bedrock.%s.amazonaws.com"},
}

const notFound = "unknown path; those served begin with /model/, /openai/, /v1/, /anthropic/, /foundation-models or /inference-profiles"

type proxy struct {
	region   string
	endpoint *url.URL // in place of those of routes, unless nil
	key      string   // which callers must present, unless empty
	origins  http.CrossOriginProtection
	bedrock  httputil.ReverseProxy
}

// newProxy returns the handler of the whole program. Requests go through base.
func newProxy(provider *bedrocktoken.Provider, endpoint *url.URL, key string, base http.RoundTripper) http.Handler {
	var hosts []string
	if endpoint != nil {
		hosts = append(hosts, endpoint.Hostname())
	}
	p := &proxy{region: provider.Region(), endpoint: endpoint, key: key}
	p.bedrock = httputil.ReverseProxy{
		Transport:     provider.Transport(base, hosts...),
		Rewrite:       p.rewrite,
		FlushInterval: -1, // at once, each piece of an answer as it comes
		ModifyResponse: func(response *http.Response) error {
			response.Header.Del("Set-Cookie") // a browser would send it to every port of this machine
			return nil
		},
		ErrorHandler: p.unanswered,
		ErrorLog:     log.New(io.Discard, "", 0), // its lines can quote what Bedrock sent
	}
	return logged(p)
}

// newTransport returns the base for newProxy.
func newTransport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true                    // answers pass as they are
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns // there are three hosts at most
	return transport
}

// ServeHTTP passes a request on, or refuses it before credentials are fetched.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// GET is not safe here: what it asks for is read in your name.
	unsafe := r.WithContext(r.Context())
	unsafe.Method = http.MethodPost

	switch host := (&url.URL{Host: r.Host}).Hostname(); {
	case !isLoopback(host): // a web page can make a name of its own lead here
		fail(w, http.StatusForbidden, "permission_error", fmt.Sprintf("the Host header is %.100q: use localhost or a loopback address", r.Host))
	case p.origins.Check(unsafe) != nil:
		fail(w, http.StatusForbidden, "permission_error", "web pages may not use this proxy")
	case !p.authorized(r):
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, "authentication_error", "send the key of BEDROCK_PROXY_KEY as a bearer token or in X-Api-Key")
	case r.URL.Host != "", r.Method == http.MethodConnect, r.Method == http.MethodTrace:
		fail(w, http.StatusBadRequest, "invalid_request_error", "this is not a forward proxy: use its address as a client's base URL")
	case p.target(r.URL) == nil:
		fail(w, http.StatusNotFound, "not_found_error", notFound)
	default:
		// Bedrock may answer before it has the whole body. Without this net/http would
		// then read the rest itself, and the transport would break off the answer.
		http.NewResponseController(w).EnableFullDuplex()
		p.bedrock.ServeHTTP(w, r)
		r.Body.Close() // not left to net/http, which can panic then: go.dev/issue/68560
	}
}

// authorized reports whether r has the key. How long it takes reveals nothing of
// the key, its length included.
func (p *proxy) authorized(r *http.Request) bool {
	want := sha256.Sum256([]byte(p.key))
	equal := func(key string) bool {
		got := sha256.Sum256([]byte(key))
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return p.key == "" || strings.EqualFold(scheme, "Bearer") && equal(token) || equal(r.Header.Get("X-Api-Key"))
}

// target returns the base of the endpoint that serves u, or nil. It decides by the
// escaped path, since that is what is sent.
func (p *proxy) target(u *url.URL) *url.URL {
	segments := strings.FieldsFunc(u.Path, func(c rune) bool { return strings.ContainsRune(`/\;`, c) })
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return nil // a server may resolve them, and serve another path
	}
	for _, route := range routes {
		rest, ok := strings.CutPrefix(u.EscapedPath(), route.prefix)
		switch {
		case !ok || !strings.HasSuffix(route.prefix, "/") && rest != "" && rest[0] != '/':
		case p.endpoint != nil:
			return p.endpoint
		default:
			return &url.URL{Scheme: "https", Host: fmt.Sprintf(route.host, p.region)}
		}
	}
	return nil
}

// rewrite leads a request to its endpoint, without the credentials that came with
// it; the transport replaces Authorization and X-Api-Key. Nor does an offer to go on
// in another protocol travel, such as Java's client makes for HTTP/2.
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(p.target(r.In.URL))
	for _, name := range []string{"Api-Key", "Cookie", "Connection", "Upgrade"} {
		r.Out.Header.Del(name)
	}
	maps.DeleteFunc(r.Out.Header, func(name string, _ []string) bool { return isSigV4(name) })
	parameters := slices.DeleteFunc(strings.Split(r.Out.URL.RawQuery, "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name, _ = url.QueryUnescape(name)
		return isSigV4(name)
	})
	r.Out.URL.RawQuery = strings.Join(parameters, "&")
}

// isSigV4 reports whether a header or query parameter has to do with a signature.
func isSigV4(name string) bool {
	return strings.HasPrefix(strings.ToLower(name), "x-amz-") // X-Amzn-Bedrock-… are settings
}

// unanswered answers when Bedrock did not.
func (p *proxy) unanswered(w http.ResponseWriter, r *http.Request, err error) {
	var network net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case r.Context().Err() != nil: // the caller has gone: 499 is for the log, as nginx has it
		w.WriteHeader(499)
	case errors.Is(err, bedrocktoken.ErrCredentials):
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "api_error", err.Error())
	case errors.Is(err, bedrocktoken.ErrEndpoint), errors.As(err, &network), errors.As(err, &certificate):
		fail(w, http.StatusBadGateway, "api_error", fmt.Sprintf("%s cannot be reached: %v", r.URL.Host, err))
	default: // err is not shown: it can quote what Bedrock sent
		fail(w, http.StatusBadGateway, "api_error", r.URL.Host+" gave no valid answer")
	}
}

// fail answers with an error in which the clients of OpenAI, Anthropic and AWS
// all find the message.
func fail(w http.ResponseWriter, status int, kind, message string) {
	message = "bedrock proxy: " + message
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"type":    "error",
		"error":   map[string]string{"type": kind, "message": message},
		"message": message,
	})
}

// logged logs method, path, status and duration of each request. Nothing else of
// it is for a log.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorder := &statusRecorder{ResponseWriter: w}
		defer func() { // also when the answer breaks off, which is a panic
			log.Printf("%.20s %.500q %d %v", r.Method, r.URL.EscapedPath(), recorder.status, time.Since(start).Round(time.Millisecond))
		}()
		next.ServeHTTP(recorder, r)
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController, which flushes.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
