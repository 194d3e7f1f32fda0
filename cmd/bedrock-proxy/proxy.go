package main

import (
	"cmp"
	"context"
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
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/transport"
)

// The hosts of Bedrock's endpoints in a region.
const (
	runtimeHost = "bedrock-runtime.%s.amazonaws.com"
	mantleHost  = "bedrock-mantle.%s.api.aws"
	controlHost = "bedrock.%s.amazonaws.com"
)

// A route leads the paths that begin with prefix to host, where they begin with
// path instead. A prefix without a slash at its end is a whole path too.
type route struct{ prefix, path, host string }

// routes has what is more special first. The usage and an answer 404 list them.
var routes = []route{
	{"/runtime/", "/", runtimeHost},
	{"/mantle/", "/", mantleHost},
	{"/control/", "/", controlHost},

	{"/model/", "/model/", runtimeHost},
	{"/guardrail/", "/guardrail/", runtimeHost},
	{"/async-invoke", "/async-invoke", runtimeHost},
	{"/foundation-models", "/foundation-models", controlHost},
	{"/inference-profiles", "/inference-profiles", controlHost},

	// Anthropic's clients append /v1/messages to their base URL, and OpenAI's never do.
	{"/v1/messages", "/anthropic/v1/messages", mantleHost},
	{"/v1/", "/v1/", mantleHost},

	// Both endpoints have these. AWS recommends the runtime for new applications, so
	// /openai/ is the runtime's. /anthropic/ is Mantle's, as /v1/messages is: the model
	// IDs that Claude Code is documented with are Mantle's.
	{"/openai/", "/openai/", runtimeHost},
	{"/anthropic/", "/anthropic/", mantleHost},
}

// routeOf returns the route of u, or nil. It decides by the escaped path, since
// that is what is sent.
func routeOf(u *url.URL) *route {
	segments := strings.FieldsFunc(u.Path, func(c rune) bool { return strings.ContainsRune(`/\;`, c) })
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return nil // a server may resolve them, and serve another path
	}
	for i := range routes {
		rest, ok := strings.CutPrefix(u.EscapedPath(), routes[i].prefix)
		if ok && (strings.HasSuffix(routes[i].prefix, "/") || rest == "" || rest[0] == '/') {
			return &routes[i]
		}
	}
	return nil
}

type proxy struct {
	profile  string   // as given, for the text of an error
	endpoint *url.URL // in place of the hosts of routes, unless nil
	key      string   // which callers must present, unless empty
	log      *log.Logger

	region  string
	origins http.CrossOriginProtection
	bedrock httputil.ReverseProxy
}

// handler returns the handler of the whole program. Requests go through base.
func (p *proxy) handler(provider *bedrocktoken.Provider, base http.RoundTripper) http.Handler {
	var hosts []string
	if p.endpoint != nil {
		hosts = append(hosts, p.endpoint.Hostname())
	}
	p.region = provider.Region()
	p.bedrock = httputil.ReverseProxy{
		Transport:     provider.Transport(base, hosts...),
		Rewrite:       p.rewrite,
		FlushInterval: -1, // at once, each piece of an answer as it comes
		ModifyResponse: func(response *http.Response) error {
			response.Header.Del("Set-Cookie") // a browser would send it to every port of this machine
			if response.StatusCode < http.StatusContinue {
				return errors.New("no status") // for which WriteHeader panics
			}
			return nil
		},
		ErrorHandler: p.unanswered,
		ErrorLog:     log.New(io.Discard, "", 0), // its lines can quote what Bedrock sent
	}
	return p
}

// newTransport returns the base for the handler.
func newTransport(ctx context.Context, profile string) (*http.Transport, error) {
	base, err := transport.New(ctx, profile)
	if err != nil {
		return nil, err
	}
	base.DisableCompression = true // answers pass as they are
	// Without pings a connection whose path has died silently, as after a sleep or a
	// change of network, is used for a quarter of an hour. It is left after 45 seconds.
	// More frequent pings make servers that count them close the connection. The values
	// are those of Kubernetes.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}
	return base, nil
}

// ServeHTTP logs method, path, status and duration of each request, and why it has no
// answer of Bedrock's. Nothing else of it is for a log.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, recorder := time.Now(), &statusRecorder{ResponseWriter: w}
	defer func() { // also when the answer breaks off, which is a panic
		p.log.Printf("%.20s %.500q %d %v%s", r.Method, r.URL.EscapedPath(), recorder.status, time.Since(start).Round(time.Millisecond), recorder.reason)
	}()
	p.serve(recorder, r)
}

// serve passes a request on, or refuses it before credentials are fetched.
func (p *proxy) serve(w http.ResponseWriter, r *http.Request) {
	// GET is not safe here: what it asks for is read in your name.
	unsafe := r.WithContext(r.Context())
	unsafe.Method = http.MethodPost

	switch host := (&url.URL{Host: r.Host}).Hostname(); {
	case r.URL.Host != "", r.Method == http.MethodConnect, r.Method == http.MethodTrace: // the answer to TRACE would show the token
		fail(w, http.StatusBadRequest, "this is not a forward proxy", "Use its address as a client's base URL, not as HTTP_PROXY or HTTPS_PROXY.")
	case p.origins.Check(unsafe) != nil:
		fail(w, http.StatusForbidden, "web pages may not use this proxy", "Call it from a program that is not a browser.")
	case p.key == "" && !isLoopback(host): // a web page can make a name of its own lead here
		fail(w, http.StatusForbidden, "the Host header names neither localhost nor a loopback address",
			"Use localhost or a loopback address; or restart bedrock-proxy with "+keyVariable+" set, and send that key.")
	case !p.authorized(r):
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, "the key is missing or wrong", "Send the key of "+keyVariable+" as a bearer token or in X-Api-Key.")
	case routeOf(r.URL) == nil:
		var prefixes []string
		for _, route := range routes {
			prefixes = append(prefixes, route.prefix)
		}
		fail(w, http.StatusNotFound, "unknown path", "Those served begin with "+strings.Join(prefixes, ", ")+".")
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

// rewrite leads a request to its endpoint, without the credentials that came with
// it; the transport replaces Authorization and X-Api-Key. Nor does an offer to go on
// in another protocol travel, such as Java's client makes for HTTP/2.
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	route := routeOf(r.In.URL)
	r.Out.URL.Path = route.path + strings.TrimPrefix(r.Out.URL.Path, route.prefix)
	if r.Out.URL.RawPath != "" {
		r.Out.URL.RawPath = route.path + strings.TrimPrefix(r.Out.URL.RawPath, route.prefix)
	}
	if p.endpoint != nil {
		r.SetURL(p.endpoint)
	} else {
		r.SetURL(&url.URL{Scheme: "https", Host: fmt.Sprintf(route.host, p.region)})
	}
	maps.DeleteFunc(r.Out.Header, func(name string, _ []string) bool {
		return strings.HasPrefix(name, "X-Amz-") || // of a signature; X-Amzn-Bedrock-… are settings
			slices.Contains([]string{"Api-Key", "Cookie", "Connection", "Upgrade"}, name)
	})
}

// unanswered answers when Bedrock did not.
func (p *proxy) unanswered(w http.ResponseWriter, r *http.Request, err error) {
	switch unreachable := fmt.Sprintf("%s cannot be reached: %v", r.URL.Host, err); {
	case r.Context().Err() != nil: // the caller has gone: 499 is for the log, as nginx has it
		w.WriteHeader(499)
	case errors.Is(err, bedrocktoken.ErrOutage):
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, explain.Running("bedrock-proxy", err, p.profile), "")
	case errors.Is(err, bedrocktoken.ErrCredentials):
		// A person has to act. Tools that are told to try again do so for minutes, and
		// show nothing meanwhile.
		w.Header().Set("X-Should-Retry", "false")
		fail(w, http.StatusForbidden, explain.Running("bedrock-proxy", err, p.profile), "")
	case errors.As(err, new(*tls.CertificateVerificationError)):
		fail(w, http.StatusBadGateway, unreachable, "If a proxy on the way has a certificate of its own, restart bedrock-proxy with AWS_CA_BUNDLE set to its authority's.")
	case errors.As(err, new(net.Error)):
		fail(w, http.StatusBadGateway, unreachable, "Check the network, HTTPS_PROXY and -endpoint. Not every region has each of Bedrock's endpoints.")
	default: // err is not shown: it can quote what Bedrock sent
		fail(w, http.StatusBadGateway, r.URL.Host+" gave no valid answer", "Try again. If it stays, check whether HTTPS_PROXY and -endpoint lead to Bedrock.")
	}
}

// notRenewed logs that credentials could not be renewed. Callers see nothing of it
// until those that are held expire.
func (p *proxy) notRenewed(err error) {
	p.log.Printf("credentials not renewed: %s", strings.ReplaceAll(explain.Running("bedrock-proxy", err, p.profile), "\n", " "))
}

// fail answers with an error in which the clients of OpenAI, Anthropic and AWS
// all find the message: what is wrong and, unless that says it, what to do. The log
// gets its first line, which has nothing of a request or of an answer of Bedrock's.
func fail(w http.ResponseWriter, status int, what, advice string) {
	kinds := map[int]string{400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
	message := strings.TrimSuffix("bedrock-proxy: "+what+"\n"+advice, "\n")
	reason, _, _ := strings.Cut(what, "\n")
	w.(*statusRecorder).reason = ": " + explain.OneLine(reason)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"type":    "error",
		"error":   map[string]string{"type": cmp.Or(kinds[status], "api_error"), "message": message},
		"message": message,
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
	reason string // for the log
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController, which flushes.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
