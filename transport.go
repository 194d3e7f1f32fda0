package bedrocktoken

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Transport returns a RoundTripper that sends every request through base with
// a fresh token in its Authorization header, in place of any other. It is for
// all clients that take an [*http.Client]. A nil base means
// [http.DefaultTransport].
//
// The token stays with the origin of the first request: a request redirected to
// another scheme, host or port is sent without an Authorization header, and one
// redirected back gets a token again. This relies on [http.Request.Response],
// which a RoundTripper wrapped around this one must preserve. The first URL is
// trusted: a client with a default address of its own, such as OpenAI's, must be
// given Bedrock's.
//
// The token is sent over HTTPS only, and over plain HTTP to localhost or a
// loopback address; for any other URL the RoundTripper returns an error and
// sends nothing. The errors of [Provider.Token] are returned as they are, so
// that [errors.Is] finds [ErrCredentials] in what an http.Client makes of them.
func (p *Provider) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{provider: p, base: base}
}

type transport struct {
	provider *Provider
	base     http.RoundTripper
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	authorized, err := t.authorize(request)
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	response, err := t.base.RoundTrip(authorized)
	if response != nil {
		// For the next redirect to find its way back to the first request, and
		// for no log of a response to show the token.
		answer := *response
		answer.Request = request
		response = &answer
	}
	return response, err
}

// authorize returns a copy of request with the Authorization that it should have.
func (t *transport) authorize(request *http.Request) (*http.Request, error) {
	// Not Clone: net/http lets the caller fill in the Trailer later, and would
	// not find the values in a copy.
	authorized := request.WithContext(request.Context())
	authorized.Header = http.Header{}
	for name, values := range request.Header {
		if !strings.EqualFold(name, "Authorization") {
			authorized.Header[name] = values
		}
	}
	if !sameOrigin(request) {
		return authorized, nil
	}
	if !mayCarryToken(request.URL) {
		return nil, fmt.Errorf("bedrocktoken: no token is sent to %q: use https, or http to a loopback address", origin(request.URL))
	}
	token, err := t.provider.Token(request.Context())
	if err != nil {
		return nil, err
	}
	authorized.Header.Set("Authorization", "Bearer "+token)
	return authorized, nil
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// sameOrigin tells whether request goes where the first of its redirects went.
func sameOrigin(request *http.Request) bool {
	first := request
	for range 100 { // more than any client follows
		if first.Response == nil {
			return origin(first.URL) == origin(request.URL)
		}
		if first = first.Response.Request; first == nil {
			return false
		}
	}
	return false
}

// origin returns scheme, host and port in one form for all of their spellings.
func origin(u *url.URL) string {
	if u == nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(lowerHost(u), port)
}

func mayCarryToken(u *url.URL) bool {
	if u == nil || u.Host == "" {
		return false
	}
	host := lowerHost(u)
	loopback := host == "localhost" || net.ParseIP(host).IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

// lowerHost folds the case of ASCII letters only: others have lower cases that
// are letters of other hosts, such as the i of U+0130.
func lowerHost(u *url.URL) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, u.Hostname())
}
