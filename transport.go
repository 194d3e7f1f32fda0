package bedrocktoken

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Transport returns a RoundTripper that sends requests through base with a token
// in the Authorization header. A nil base means [http.DefaultTransport].
//
// A request is sent only if its URL is
//   - HTTPS to an endpoint of Bedrock in the Provider's region, such as
//     bedrock-runtime.us-east-1.amazonaws.com or a VPC endpoint's name,
//   - HTTPS to one of the given hosts, such as a gateway: each is a host name or
//     IP address as in a URL, without scheme, port, brackets or wildcard,
//   - HTTP or HTTPS to localhost or a loopback address.
//
// Any other request is refused before credentials are retrieved: one for Bedrock
// in another region with [ErrRegion], all others with [ErrEndpoint]. Redirects are
// checked in the same way, so base must not follow any itself.
//
// The token replaces the request's Authorization and X-Api-Key headers. If the
// request's context is done before there are credentials, the error is the
// context's. Otherwise it is that of [Provider.Token].
func (p *Provider) Transport(base http.RoundTripper, hosts ...string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{provider: p, base: base, hosts: slices.Clone(hosts)}
}

type transport struct {
	provider *Provider
	base     http.RoundTripper
	hosts    []string
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
		response.Request = request // so that no log of a response shows the token
	}
	return response, err
}

// authorize returns a copy of request with a token.
func (t *transport) authorize(request *http.Request) (*http.Request, error) {
	if err := t.checkURL(request.URL); err != nil {
		return nil, err
	}
	token, err := t.provider.Token(request.Context())
	if ctxErr := request.Context().Err(); ctxErr != nil {
		return nil, ctxErr // as it is, for http.Client to see whether it timed out
	}
	if err != nil {
		return nil, err
	}
	// Not Clone: net/http lets the caller fill in the Trailer later, and would
	// not find the values in a copy.
	authorized := request.WithContext(request.Context())
	authorized.Header = http.Header{"Authorization": {"Bearer " + token}}
	for name, values := range request.Header {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "X-Api-Key":
		default:
			authorized.Header[name] = values
		}
	}
	return authorized, nil
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// regionOf matches the host names of Bedrock's endpoints, which only AWS can
// assign, and captures their region. It is exact about what a region looks like:
// bedrock.s3.amazonaws.com is somebody's bucket.
var regionOf = regexp.MustCompile(`^(?:vpce-[a-z0-9-]+\.bedrock[a-z0-9-]*\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.vpce\.amazonaws\.com` +
	`|bedrock[a-z0-9-]*\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.(?:amazonaws\.com|api\.aws))$`)

// checkURL returns an error unless a request to u may carry a token.
func (t *transport) checkURL(u *url.URL) error {
	if u == nil || u.Hostname() == "" {
		return fmt.Errorf("%w: the request's URL has no host", ErrEndpoint)
	}
	host, own, theirs := lower(u.Hostname()), t.provider.Region(), ""
	if match := regionOf.FindStringSubmatch(host); match != nil {
		theirs = match[1] + match[2]
	}
	given := slices.ContainsFunc(t.hosts, func(h string) bool { return lower(h) == host })
	address := bounded(fmt.Sprintf("%q", u.Scheme+"://"+u.Host))
	secure, loopback := u.Scheme == "https", host == "localhost" || net.ParseIP(host).IsLoopback()
	switch {
	case secure && (given || theirs == own && own != ""), loopback && (secure || u.Scheme == "http"):
		return nil
	case secure && theirs != "":
		return fmt.Errorf("%w: %s is in %.80s, but the token would be for %s", ErrRegion, address, theirs, own)
	}
	return fmt.Errorf("%w: no token is sent to %s: set the client's base URL to Bedrock's https address in %s, or to that of a host given to Transport, which has %.80q",
		ErrEndpoint, address, own, t.hosts)
}

// lower folds the case of ASCII letters only: others have lower cases that are
// letters of other hosts, such as the i of U+0130.
func lower(host string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, host)
}
