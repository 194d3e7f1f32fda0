package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

const runtimeURL = "https://bedrock-runtime." + region + ".amazonaws.com"

// A recorder is a RoundTripper that does what http.Transport does: closes the body,
// and points the response at the request. If err is not nil, it returns that.
type recorder struct {
	seen []*http.Request
	err  error
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.seen = append(r.seen, request)
	if request.Body != nil {
		request.Body.Close()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: request}, nil
}

// A body is a request's, and counts how often it is closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

// bearerOf returns the token of a request, or "".
func bearerOf(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

// Go would send a request for LOCALHOST through HTTP_PROXY, the token in the clear.
func TestTransportSparesLocalhostTheProxy(t *testing.T) {
	for address, want := range map[string]string{"http://LOCALHOST:1/X?Y": "http://localhost:1/X?Y", "https://LOCALHOST:1/X": "https://LOCALHOST:1/X"} {
		var sent string
		transport := newProvider(t, static(accessKeyID, secretKey, "")).Transport(awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			sent = r.URL.String()
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}))
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if _, err := transport.RoundTrip(request); err != nil || sent != want || request.URL.String() != address {
			t.Errorf("%s: sent to %s, error %v; the request is now for %s", address, sent, err, request.URL)
		}
	}
}

// Requests are sent, with a token, to the endpoints of Bedrock that take one in the
// Provider's region, to the hosts that were given and to loopback addresses. Any
// other address is an error that says what to do.
func TestTransportAddresses(t *testing.T) {
	given := []string{
		"gateway.example", "Bedrock.INTERNAL-Z", "10.0.0.1", "2001:db8::1", "kiosk.example", "bücher.example",
		"bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock-runtime.eu-central-1.amazonaws.com",
	}
	never := []string{
		"https://gateway.example", "gateway.example:8443", "gateway.example/v1", "", "*", "*.example", ".example", "[2001:db8::1]", " gateway.example", "http://10.0.0.1",
	}
	inRegion := func(region string) (addresses []string) {
		for _, service := range []string{"bedrock", "bedrock-runtime", "bedrock-fips", "bedrock-runtime-fips", "bedrock-mantle"} {
			name := service + "." + region
			addresses = append(addresses, "https://"+name+".amazonaws.com", "https://"+name+".api.aws", "https://vpce-0a1b2c-3d4e5f."+name+".vpce.amazonaws.com",
				"https://vpce-0a1b2c-3d4e5f-us-east-1a."+name+".vpce.amazonaws.com:8443/path?query#fragment",
				"https://"+strings.ToUpper(name)+".AmazonAWS.COM:443/path", "https://user:secret@"+name+".amazonaws.com:")
		}
		return addresses
	}
	https := func(hosts string) (addresses []string) {
		for host := range strings.FieldsSeq(hosts) {
			addresses = append(addresses, "https://"+host)
		}
		return addresses
	}
	var otherServices []string
	for _, service := range []string{
		"bedrock-agent", "bedrock-agent-runtime", "bedrock-agentcore", "bedrock-agentcore-control", "bedrock-data-automation",
		"bedrock-data-automation-runtime", "bedrock-mantle-fips", "bedrock-runtime-fips-fips", "bedrock-x", "sts",
	} {
		otherServices = append(otherServices, "https://"+service+".us-east-1.amazonaws.com", "https://"+service+".us-east-1.api.aws",
			"https://vpce-0."+service+".us-east-1.vpce.amazonaws.com", "https://gateway."+service+".us-east-1.amazonaws.com")
	}
	for kind, test := range map[string]struct {
		region    string   // of the Provider, if it is another
		hosts     []string // given to Transport
		want      error    // nil if the request is sent, with a token
		says      string   // what the error says besides the address
		addresses []string
	}{
		"Bedrock":                {addresses: inRegion("us-east-1")},
		"Bedrock in GovCloud":    {region: "us-gov-west-1", addresses: inRegion("us-gov-west-1")},
		"a region of two digits": {region: "us-east-11", addresses: inRegion("us-east-11")},
		"loopback": {addresses: []string{
			"http://localhost", "https://localhost:8443", "http://LocalHost:8080/path", "http://127.0.0.1:4566", "https://127.0.0.1", "http://127.8.9.10",
			"http://[::1]", "https://[::1]:8443", "http://[0:0:0:0:0:0:0:1]", "http://[::ffff:127.0.0.1]:80",
		}},
		"given": {hosts: given, addresses: []string{
			"https://gateway.example", "https://GATEWAY.example:8443/path", "https://bedrock.internal-z", "https://10.0.0.1",
			"https://[2001:DB8::1]:8443", "https://bücher.example",
			"https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.eu-central-1.amazonaws.com",
			runtimeURL, "http://localhost", // as without
		}},
		"Bedrock in another region":                {want: bedrocktoken.ErrRegion, says: "is in us-west-2, but the token would be for us-east-1", addresses: inRegion("us-west-2")},
		"a longer region":                          {want: bedrocktoken.ErrRegion, says: "is in us-east-11, but the token would be for us-east-1", addresses: inRegion("us-east-11")},
		"a shorter region":                         {region: "us-east-11", want: bedrocktoken.ErrRegion, says: "is in us-east-1, but the token would be for us-east-11", addresses: inRegion("us-east-1")},
		"another region than that of a given host": {hosts: given, want: bedrocktoken.ErrRegion, says: "is in eu-west-1", addresses: inRegion("eu-west-1")},
		"a service that takes no token":            {want: bedrocktoken.ErrEndpoint, addresses: otherServices},
		"another scheme": {want: bedrocktoken.ErrEndpoint, addresses: []string{
			"http://bedrock-runtime.us-east-1.amazonaws.com/path?query", "http://bedrock-runtime.us-east-1.amazonaws.com:443",
			"http://bedrock-mantle.us-east-1.api.aws", "http://vpce-0.bedrock.us-east-1.vpce.amazonaws.com",
			"http://bedrock-runtime.us-west-2.amazonaws.com", "http://user:secret@bedrock-runtime.us-east-1.amazonaws.com",
			"wss://bedrock-runtime.us-east-1.amazonaws.com", "ftp://localhost", "ws://127.0.0.1", "https+unix://localhost",
			"//bedrock-runtime.us-east-1.amazonaws.com/path", "//localhost",
		}},
		"names that others can own": {want: bedrocktoken.ErrEndpoint, addresses: https(`
			api.openai.com/path example.com?query bedrock-runtime.cn-north-1.amazonaws.com.cn bedrock-runtime.eusc-de-east-1.amazonaws.eu
			bedrock.us-east-1.s3.amazonaws.com bedrock.s3.us-east-1.amazonaws.com bedrock.s3.amazonaws.com bedrock.s3-us-west-2.amazonaws.com
			bedrock.s3-us-east-1.amazonaws.com bedrock.s3.dualstack.us-east-1.amazonaws.com bedrock.s3-website-us-east-1.amazonaws.com
			bedrock.s3-accelerate.amazonaws.com bedrock-runtime.us-east-1.s3-us-east-1.amazonaws.com bedrock-runtime.us-east-1.elb.amazonaws.com
			bedrock-runtime.elb.us-east-1.amazonaws.com bedrock.us-east-1.rds.amazonaws.com bedrock.execute-api.us-east-1.amazonaws.com
			bedrock.lambda-url.us-east-1.on.aws bedrock.us-east-1.elasticbeanstalk.com vpce-0.vpce-svc-0.us-east-1.vpce.amazonaws.com
			bedrock.vpce-0.s3.us-east-1.vpce.amazonaws.com bedrock-runtime.us-east-1.amazonaws.com.example.com bedrock-mantle.us-east-1.api.aws.example.com
			vpce-0.bedrock.us-east-1.vpce.amazonaws.com.example.com bedrock-runtime.us-east-1.evilamazonaws.com bedrock-mantle.us-east-1.evil-api.aws
			bedrock-runtime.us-east-1.amazonaws.company bedrock-runtime-us-east-1.amazonaws.com.co evilbedrock-runtime.us-east-1.amazonaws.com
			evil.bedrock-runtime.us-east-1.amazonaws.com evilvpce-0.bedrock.us-east-1.vpce.amazonaws.com evil.vpce-0.bedrock.us-east-1.vpce.amazonaws.com
			vpce-0.evil.bedrock.us-east-1.vpce.amazonaws.com vpce-0.bedrock.evil.us-east-1.vpce.amazonaws.com vpce-0.bedrock.us-east-1.vpce.amazonaws.company`)},
		// Between them they have each dot replaced by another character, and each
		// part missing or malformed.
		"no endpoint's name": {want: bedrocktoken.ErrEndpoint, addresses: https(`
			bedrock-runtimexus-east-1.amazonaws.com bedrock-runtime.us-east-1xamazonaws.com bedrock-runtime.us-east-1.amazonawsxcom
			bedrock-mantle.us-east-1.apixaws vpce-0xbedrock.us-east-1.vpce.amazonaws.com vpce-0.bedrockxus-east-1.vpce.amazonaws.com
			vpce-0.bedrock.us-east-1xvpce.amazonaws.com vpce-0.bedrock.us-east-1.vpcexamazonaws.com vpce-0.bedrock.us-east-1.vpce.amazonawsxcom
			bedrock.amazonaws.com bedrock.api.aws us-east-1.amazonaws.com vpce-0.bedrock.vpce.amazonaws.com vpce-0.us-east-1.vpce.amazonaws.com
			bedrock.us-east-1.vpce.amazonaws.com vpce-.bedrock.us-east-1.vpce.amazonaws.com vpce0.bedrock.us-east-1.vpce.amazonaws.com
			vpce-0.bedrock.us-east-1.amazonaws.com vpce-0.bedrock.us-east-1.api.aws vpce-0.bedrock.us-east-1.vpce.api.aws bedrock.us-east.amazonaws.com
			bedrock.us-1.amazonaws.com bedrock.us-east-1a.amazonaws.com bedrock.1-east-1.amazonaws.com bedrock.-us-east-1.amazonaws.com
			bedrock.us--east-1.amazonaws.com vpce-0.bedrock.us-east.vpce.amazonaws.com vpce-0.bedrock.us-1.vpce.amazonaws.com
			vpce-0.bedrock.s3-us-1.vpce.amazonaws.com bedrock_runtime.us-east-1.amazonaws.com vpce-0_1.bedrock.us-east-1.vpce.amazonaws.com
			bedrock-runtime.us-east-1.amazonaws.com. bedrock-runtime..us-east-1.amazonaws.com .bedrock-runtime.us-east-1.amazonaws.com`)},
		"look-alikes in other scripts": {hosts: given, want: bedrocktoken.ErrEndpoint, addresses: []string{
			"https://bedroc\u212a-runtime.us-east-1.amazonaws.com", // Kelvin sign, whose lower case is k
			"https://bedroc%E2%84%AA-runtime.us-east-1.amazonaws.com",
			"https://bedrock-runt\u0130me.us-east-1.amazonaws.com",     // capital I with a dot, whose lower case begins with i
			"https://bedrock-runtime.u\u017f-east-1.amazonaws.com",     // long s, whose upper case is S
			"https://bedr\u043eck-runtime.us-east-1.amazonaws.com",     // Cyrillic
			"https://\uff42edrock-runtime.us-east-1.amazonaws.com",     // full width
			"https://bedrock-runtime\u3002us-east-1.amazonaws.com",     // ideographic full stop
			"https://bedrock-runtime.us-east-\u0661.amazonaws.com",     // Arabic digit
			"https://xn--bedrock-runtime-9x0a.us-east-1.amazonaws.com", // Punycode
			"https://bedrock\u200b-runtime.us-east-1.amazonaws.com",    // zero-width space
			"https://vpce-0.bedroc\u212a.us-east-1.vpce.amazonaws.com", // Kelvin sign
			"https://\u212aiosk.example", "https://k\u0130osk.example", // hosts that were given
			"http://localho\u017ft", "http://loc\u0430lhost", // long s, Cyrillic
			"http://127.0.0.\uff11", "http://\u2460\u2461\u2466.0.0.\u2460", // other digits
		}},
		"a name in the wrong place": {hosts: given, want: bedrocktoken.ErrEndpoint, addresses: []string{
			"https://bedrock-runtime.us-east-1.amazonaws.com@stranger.example", "https://bedrock-runtime.us-east-1.amazonaws.com:secret@stranger.example/path",
			"https://gateway.example@stranger.example", "http://localhost@stranger.example", "http://127.0.0.1:secret@stranger.example",
			"https://stranger.example/path@bedrock-runtime.us-east-1.amazonaws.com", "https://stranger.example/path/bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example?query=bedrock-runtime.us-east-1.amazonaws.com", "https://stranger.example?query@bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example#@bedrock-runtime.us-east-1.amazonaws.com",
		}},
		"not quite a given host": {hosts: given, want: bedrocktoken.ErrEndpoint, addresses: []string{
			"http://gateway.example", "http://gateway.example:443", "http://10.0.0.1", "http://[2001:db8::1]", "ftp://gateway.example",
			"https://sub.gateway.example", "https://example", "https://gateway.example.", "https://gateway.example.com", "https://gateway",
			"https://10.0.0.2", "https://[2001:db8::2]", "https://xn--bcher-kva.example",
			"https://bedrock.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.cn-northwest-1.amazonaws.com.cn",
		}},
		"hosts that never match": {hosts: never, want: bedrocktoken.ErrEndpoint, says: fmt.Sprintf("%q", never), addresses: []string{
			"https://gateway.example", "https://gateway.example:8443", "https://api.openai.com", "https://[2001:db8::1]", "http://10.0.0.1",
		}},
		"loopback in appearance": {want: bedrocktoken.ErrEndpoint, addresses: []string{
			"http://0.0.0.0", "https://0.0.0.0", "http://[::]", "http://128.0.0.1", "http://10.0.0.1", "http://169.254.169.254",
			"http://127.1", "http://2130706433", "http://0177.0.0.1", "http://0x7f.0.0.1", "http://[::1%25lo]", "http://[fe80::1]",
			"http://localhost.", "http://foo.localhost", "http://localhost.example.com", "http://127.0.0.1.example.com", "https://localhost.localdomain",
		}},
		"no host": {hosts: []string{"", "localhost"}, want: bedrocktoken.ErrEndpoint, says: "no host", addresses: []string{
			"", "/path", "https:", "https://", "http://", "https:///path", "https://:443", "http://:8080", "https:path", "https://user:secret@/path", "https://[]",
			"localhost:8080", "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.us-east-1.amazonaws.com:443", "mailto:someone@localhost",
		}},
		"no URL that url.Parse would return": {want: bedrocktoken.ErrEndpoint, addresses: []string{
			runtimeURL + "\n", "https://stranger.example\nbedrock-runtime.us-east-1.amazonaws.com", runtimeURL + "\x00", runtimeURL + " ",
			runtimeURL + ":443:443", runtimeURL + ":https", runtimeURL + "%2eexample.com", `https://stranger.example\@bedrock-runtime.us-east-1.amazonaws.com`,
			"HTTPS://bedrock-runtime.us-east-1.amazonaws.com\n", "https://[bedrock-runtime.us-east-1.amazonaws.com", "https://\xff", "http://local\xffhost",
		}},
		"very long": {hosts: []string{strings.Repeat("c", 1<<14)}, want: bedrocktoken.ErrEndpoint, addresses: []string{
			"https://" + strings.Repeat("a", 1<<14) + ".example", "https://" + strings.Repeat("\U000e0001", 300),
		}},
		"very long, and a region": {want: bedrocktoken.ErrRegion, addresses: []string{"https://bedrock." + strings.Repeat("a-", 1<<13) + "a-1.amazonaws.com"}},
	} {
		for _, address := range test.addresses {
			t.Run(fmt.Sprintf("%s/%.80q", kind, address), func(t *testing.T) {
				u, err := url.Parse(address)
				if err != nil { // a program can still build it by hand
					scheme, host, _ := strings.Cut(address, "://")
					u = &url.URL{Scheme: scheme, Host: host}
				}
				home := cmp.Or(test.region, region)
				source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return longTerm, nil })
				base, hosts := new(recorder), slices.Clone(test.hosts)
				rt := newProvider(t, source, bedrocktoken.WithRegion(home)).Transport(base, hosts...)
				clear(hosts) // it is the caller's
				sent := &body{Reader: strings.NewReader("x")}
				response, err := rt.RoundTrip(&http.Request{Method: "POST", URL: u, Body: sent})
				if sent.closed != 1 {
					t.Errorf("the body was closed %d times", sent.closed)
				}
				if test.want == nil {
					if err != nil || len(base.seen) != 1 {
						t.Fatalf("%d requests sent, error %v", len(base.seen), err)
					}
					signedBy(t, bearerOf(base.seen[0]), home, longTerm)
					return
				}

				if len(base.seen) != 0 || source.Calls() != 0 || response != nil {
					t.Errorf("%d requests sent, %d retrievals", len(base.seen), source.Calls())
				}
				for _, kind := range []error{bedrocktoken.ErrRegion, bedrocktoken.ErrEndpoint, bedrocktoken.ErrCredentials} {
					if errors.Is(err, kind) != (kind == test.want) || len(err.Error()) > 1000 {
						t.Fatalf("error is %v, want %v", err, test.want)
					}
				}
				says := []string{test.says}
				if u.Hostname() != "" {
					says = append(says, strings.TrimSuffix(fmt.Sprintf("%.40q", u.Scheme+"://"+u.Host), `"`))
					if test.want == bedrocktoken.ErrEndpoint { // and what to do
						says = append(says, "base URL", "https address in "+home, "Transport")
					}
				}
				for _, part := range says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
				for _, part := range []string{"user", "secret", "path", "query"} {
					if strings.Contains(err.Error(), part) {
						t.Errorf("error %q shows %q of the URL", err, part)
					}
				}
			})
		}
	}
	rt := newProvider(t, static(accessKeyID, secretKey, "")).Transport(new(recorder))
	for _, u := range []*url.URL{nil, {Scheme: "HTTPS", Host: "bedrock-runtime.us-east-1.amazonaws.com"}} {
		if _, err := rt.RoundTrip(&http.Request{URL: u}); !errors.Is(err, bedrocktoken.ErrEndpoint) {
			t.Errorf("%v: error %v, want ErrEndpoint", u, err)
		}
	}
}

// A redirect is followed to no other hosts than requests are sent to.
func TestTransportChecksRedirects(t *testing.T) {
	const mantle, gateway, stranger = "https://bedrock-mantle.us-east-1.api.aws", "https://gateway.example", "https://stranger.example"
	provider := newProvider(t, static(accessKeyID, secretKey, ""))
	for name, test := range map[string]struct {
		hops []string
		want error // for the last hop; all before it arrive
	}{
		"same host":                       {[]string{runtimeURL, runtimeURL + "/a", runtimeURL + ":8443/b"}, nil},
		"another endpoint, a given host":  {[]string{runtimeURL, mantle, gateway + ":8443", "https://Bedrock.US-EAST-1.api.aws"}, nil},
		"another region":                  {[]string{runtimeURL, "https://bedrock-runtime.us-west-2.amazonaws.com"}, bedrocktoken.ErrRegion},
		"plain HTTP":                      {[]string{gateway, "http://gateway.example"}, bedrocktoken.ErrEndpoint},
		"a bucket":                        {[]string{runtimeURL, "https://bedrock.us-east-1.s3.amazonaws.com"}, bedrocktoken.ErrEndpoint},
		"a stranger, after others":        {[]string{runtimeURL, mantle, stranger + ":8443/path"}, bedrocktoken.ErrEndpoint},
		"a stranger, without a scheme":    {[]string{gateway, "//stranger.example"}, bedrocktoken.ErrEndpoint},
		"a stranger with Bedrock as user": {[]string{runtimeURL, runtimeURL + "@stranger.example"}, bedrocktoken.ErrEndpoint},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := 0
			client := &http.Client{Transport: provider.Transport(awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				signedBy(t, bearerOf(r), region, longTerm)
				if sent, err := io.ReadAll(r.Body); err != nil || string(sent) != "body" {
					t.Errorf("hop %d: read %q and error %v", arrived, sent, err)
				}
				if arrived++; arrived == len(test.hops) {
					return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
				}
				return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {test.hops[arrived]}}, Body: http.NoBody}, nil
			}), "gateway.example")}
			_, err := client.Post(test.hops[0], "", strings.NewReader("body"))
			want := len(test.hops)
			if test.want != nil {
				want--
			}
			if (err == nil) != (test.want == nil) || !errors.Is(err, test.want) || arrived != want {
				t.Errorf("%d requests arrived, want %d; error %v, want %v", arrived, want, err, test.want)
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
	stale := http.Header{
		"Authorization": {"stale", "Basic stale"}, "authorization": {"stale"}, "AUTHORIZATION": {"stale"}, "authoRization": nil,
		"X-Api-Key": {"stale", "stale"}, "x-api-key": {"stale"}, "X-API-KEY": {}, "X-Api-key": {"stale"},
	}
	both := maps.Clone(rest)
	maps.Copy(both, stale)
	provider := newProvider(t, static(accessKeyID, secretKey, ""))
	for name, test := range map[string]struct{ header, rest http.Header }{
		"none": {nil, http.Header{}}, "others": {rest, rest}, "keys": {stale, http.Header{}}, "both": {both, rest},
	} {
		t.Run(name, func(t *testing.T) {
			base, sent := new(recorder), &body{Reader: strings.NewReader("x")}
			request := &http.Request{Method: "POST", URL: &url.URL{Scheme: "http", Host: "localhost"}, Header: test.header.Clone(), Body: sent}
			before := *request
			response, err := provider.Transport(base).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			got := maps.Clone(base.seen[0].Header)
			if len(got["Authorization"]) != 1 {
				t.Fatalf("Authorization is %q", got["Authorization"])
			}
			signedBy(t, bearerOf(base.seen[0]), region, longTerm)
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
			if base.seen[0].Body != sent || sent.closed != 1 {
				t.Errorf("the body was wrapped, or closed %d times", sent.closed)
			}
		})
	}
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
		Status: "403 Odd", StatusCode: 403, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{"Set-Cookie": {"a=b"}}, Body: io.NopCloser(strings.NewReader("answer")),
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
	errBase := errors.New("no route")
	for name, test := range map[string]struct {
		source aws.CredentialsProvider
		sent   int
		want   []error
	}{
		"of the source": {failing(errRefused), 0, []error{bedrocktoken.ErrCredentials, errRefused}},
		"in an outage":  {failing(io.ErrUnexpectedEOF), 0, []error{bedrocktoken.ErrCredentials, bedrocktoken.ErrOutage}},
		"of the base":   {static(accessKeyID, secretKey, ""), 2, []error{errBase}},
	} {
		t.Run(name, func(t *testing.T) {
			base := &recorder{err: errBase}
			client := &http.Client{Transport: newProvider(t, test.source).Transport(base)}
			sent := &body{Reader: strings.NewReader("x")}
			_, err := client.Post(runtimeURL, "", sent)
			_, withoutBody := client.Get(runtimeURL)
			for _, want := range test.want {
				if !errors.Is(err, want) || !errors.Is(withoutBody, want) {
					t.Errorf("errors %v and %v, want %v", err, withoutBody, want)
				}
			}
			if len(base.seen) != test.sent || sent.closed != 1 {
				t.Errorf("%d requests sent; body closed %d times", len(base.seen), sent.closed)
			}
			if strings.Contains(err.Error(), "bedrock-api-key") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

// A request whose context ends during the wait for credentials returns the context's
// error as it is, so that http.Client sees whether it timed out.
func TestTransportContextEndsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, base, sent, start := make(chan struct{}), new(recorder), &body{Reader: strings.NewReader("x")}, time.Now()
		defer close(release)
		provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			<-release // ignores its context
			return aws.Credentials{}, errRefused
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		request, _ := http.NewRequestWithContext(ctx, "POST", runtimeURL, sent)
		if _, err := provider.Transport(base).RoundTrip(request); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("error is %v after %v, want DeadlineExceeded after a second", err, time.Since(start))
		}
		if len(base.seen) != 0 || sent.closed != 1 {
			t.Errorf("%d requests sent; body closed %d times", len(base.seen), sent.closed)
		}
	})
}

// Bodies stream both ways at the same time, and the trailers of both arrive. Between a
// client and Bedrock there may be a ReverseProxy with this transport, which does not
// pass on a request's trailers.
func TestTransportStreams(t *testing.T) {
	for name, test := range map[string]struct{ http2, proxied bool }{
		"HTTP/1": {false, false}, "HTTP/2": {true, false}, "HTTP/1, proxied": {false, true}, "HTTP/2, proxied": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			serve := func(handler http.HandlerFunc) *httptest.Server {
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.NewResponseController(w).EnableFullDuplex() // an error with HTTP/2, which always is
					handler(w, r)
				}))
				server.EnableHTTP2 = test.http2
				server.StartTLS()
				t.Cleanup(server.Close)
				return server
			}
			server := serve(func(w http.ResponseWriter, r *http.Request) {
				signedBy(t, bearerOf(r), region, longTerm)
				w.Header().Set("Trailer", "X-Status")
				for letter := make([]byte, 1); ; {
					if _, err := io.ReadFull(r.Body, letter); err != nil {
						break
					}
					w.Write(letter)
					http.NewResponseController(w).Flush()
				}
				if !test.proxied && r.Trailer.Get("X-Checksum") != "sent" {
					t.Errorf("the request's trailer is %v", r.Trailer)
				}
				w.Header().Set("X-Status", "done")
			})
			client := &http.Client{Transport: newProvider(t, static(accessKeyID, secretKey, "")).Transport(server.Client().Transport)}
			if test.proxied {
				target, _ := url.Parse(server.URL)
				proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: client.Transport}
				server = serve(proxy.ServeHTTP)
				client = server.Client()
			}
			reader, writer := io.Pipe()
			request, _ := http.NewRequestWithContext(t.Context(), "POST", server.URL, reader)
			request.Trailer = http.Header{"X-Checksum": nil}
			go writer.Write([]byte("a"))
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			for _, letter := range []byte("abc") {
				if letter != 'a' {
					go writer.Write([]byte{letter})
				}
				got := make([]byte, 1)
				if _, err := io.ReadFull(response.Body, got); err != nil || got[0] != letter {
					t.Fatalf("read %q and error %v, want %q", got, err, letter)
				}
			}
			request.Trailer.Set("X-Checksum", "sent")
			writer.Close()
			rest, err := io.ReadAll(response.Body)
			if want := (http.Header{"X-Status": {"done"}}); err != nil || len(rest) != 0 || !reflect.DeepEqual(response.Trailer, want) {
				t.Errorf("read %q, error %v and trailer %v at the end", rest, err, response.Trailer)
			}
		})
	}
}

type idle struct {
	http.RoundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

// http.Client.CloseIdleConnections reaches the base.
func TestTransportClosesIdleConnections(t *testing.T) {
	provider, base := newProvider(t, static(accessKeyID, secretKey, "")), new(idle)
	for _, base := range []http.RoundTripper{base, provider.Transport(base), new(recorder)} { // the last has nothing to call
		(&http.Client{Transport: provider.Transport(base)}).CloseIdleConnections()
	}
	if base.closed != 2 {
		t.Errorf("closed %d times, want 2", base.closed)
	}
}
