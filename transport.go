package bedrocktoken

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Transport returns a RoundTripper that sends requests through base with a token
// in the Authorization header. A nil base means [http.DefaultTransport].
//
// Requests are sent only to
//   - https URLs of the endpoints bedrock, bedrock-runtime (both with -fips too) and
//     bedrock-mantle in the Provider's region, such as
//     bedrock-runtime.us-east-1.amazonaws.com, and of their VPC endpoints, in the
//     partitions aws and aws-us-gov,
//   - https URLs of the given hosts, such as a gateway: each is a host name or IP
//     address as in a URL, without scheme, port, brackets or wildcard,
//   - http and https URLs of localhost and loopback addresses.
//
// Any other request is refused before credentials are retrieved: an https one for
// Bedrock in another region with [ErrRegion], all others with [ErrEndpoint].
// Redirects are checked if base does not follow them itself. Other errors are base's,
// that of the request's context, not wrapped, or those of [Provider.Token].
//
// The token replaces the request's Authorization header, and X-Api-Key is removed. A
// response with status 401 or 403 is passed on, and nothing is sent again.
func (provider *Provider) Transport(base http.RoundTripper, hosts ...string) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{provider: provider, base: base, hosts: slices.Clone(hosts)}
}

type transport struct {
	provider *Provider
	base     http.RoundTripper
	hosts    []string
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	authorized, creds, err := t.authorize(request)
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	response, err := t.base.RoundTrip(authorized)
	if response != nil {
		response.Request = request // so that no log of a response shows the token
		if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
			if renewer, ok := t.provider.signer().source.(*renewer); ok {
				renewer.deny(creds)
			}
		}
	}
	return response, err
}

// authorize returns a copy of request with a token, and the credentials that signed
// it.
func (t *transport) authorize(request *http.Request) (*http.Request, aws.Credentials, error) {
	if err := t.checkURL(request.URL); err != nil {
		return nil, aws.Credentials{}, err
	}
	token, creds, err := t.provider.sign(request.Context())
	if ctxErr := request.Context().Err(); ctxErr != nil {
		return nil, aws.Credentials{}, ctxErr // as it is, for http.Client to see whether it timed out
	}
	if err != nil {
		return nil, aws.Credentials{}, err
	}
	// Not Clone: net/http lets the caller fill in the Trailer later, and would
	// not find the values in a copy.
	authorized := request.WithContext(request.Context())
	if request.URL.Scheme == "http" { // or net/http would send LOCALHOST through HTTP_PROXY
		plain := *request.URL
		plain.Host = lower(plain.Host)
		authorized.URL = &plain
	}
	authorized.Header = http.Header{"Authorization": {"Bearer " + token.Value}}
	for name, values := range request.Header {
		if key := http.CanonicalHeaderKey(name); key != "Authorization" && key != "X-Api-Key" {
			authorized.Header[name] = slices.Clip(values) // so that base cannot append to the caller's
		}
	}
	return authorized, creds, nil
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (t *transport) CloseIdleConnections() {
	(&http.Client{Transport: t.base}).CloseIdleConnections()
}

// checkURL returns an error unless a request to u may carry a token.
func (t *transport) checkURL(u *url.URL) error {
	if u == nil || u.Hostname() == "" {
		return fmt.Errorf("%w: the request's URL has no host", ErrEndpoint)
	}
	host := lower(u.Hostname())
	secure := u.Scheme == "https"
	if loopback := host == "localhost" || net.ParseIP(host).IsLoopback(); loopback && (secure || u.Scheme == "http") {
		return nil
	}
	if allowed := slices.ContainsFunc(t.hosts, func(h string) bool { return lower(h) == host }); allowed && secure {
		return nil
	}
	own, region := t.provider.Region(), endpointRegion(host)
	if secure && region != "" && region == own {
		return nil
	}
	address := bounded(fmt.Sprintf("%q", u.Scheme+"://"+u.Host))
	if secure && region != "" {
		return fmt.Errorf("%w: %s is in %.80s, but the token would be for %s", ErrRegion, address, region, own)
	}
	return fmt.Errorf("%w: no token is sent to %s: set the client's base URL to Bedrock's https address in %s, or to that of a host given to Transport, which has %.80q",
		ErrEndpoint, address, own, t.hosts)
}

// bedrockHost matches the host names of Bedrock's endpoints that accept tokens,
// which only AWS can assign, and captures their region. The region must look like
// one, because bedrock.s3.amazonaws.com is a bucket that anybody could own.
var bedrockHost = func() *regexp.Regexp {
	const service, region = `(?:bedrock(?:-runtime)?(?:-fips)?|bedrock-mantle)`, `(` + regionName + `)`
	return regexp.MustCompile(`^(?:` + service + `\.` + region + `\.(?:amazonaws\.com|api\.aws)` +
		`|vpce-[a-z0-9-]+\.` + service + `\.` + region + `\.vpce\.amazonaws\.com)$`)
}()

// endpointRegion returns the region of an endpoint of Bedrock, or "" if host is
// none.
func endpointRegion(host string) string {
	match := bedrockHost.FindStringSubmatch(host)
	if match == nil {
		return ""
	}
	return match[1] + match[2]
}

// lower folds the case of ASCII letters only. strings.ToLower also maps some
// non-ASCII letters to ASCII, such as U+0130 to i, which would change the host.
func lower(host string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, host)
}
