package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// Requests are sent, with a token, to Bedrock in the Provider's region, to the hosts
// that were given and to loopback addresses. Any other address is an error that says
// what to do.
func TestTransportAddresses(t *testing.T) {
	given := []string{
		"gateway.example", "Bedrock.INTERNAL", "10.0.0.1", "2001:db8::1", "kiosk.example", "bücher.example",
		"bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock-runtime.eu-central-1.amazonaws.com",
	}
	tests := []struct {
		kind      string
		region    string   // of the Provider, if it is another
		hosts     []string // given to Transport
		want      error    // nil if the request is sent, with a token
		says      []string // what the error says besides the address
		addresses []string
	}{{
		kind: "Bedrock",
		addresses: []string{
			"https://bedrock-runtime.us-east-1.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com/path?query#fragment",
			"https://bedrock.us-east-1.amazonaws.com/foundation-models",
			"https://bedrock-mantle.us-east-1.api.aws/v1/models",
			"https://bedrock-runtime.us-east-1.api.aws",
			"https://bedrock-runtime-fips.us-east-1.amazonaws.com",
			"https://bedrock-fips.us-east-1.amazonaws.com",
			"https://vpce-0a1b2c-3d4e5f.bedrock-runtime.us-east-1.vpce.amazonaws.com",
			"https://vpce-0a1b2c-3d4e5f-us-east-1a.bedrock-mantle.us-east-1.vpce.amazonaws.com",
			"https://vpce-0.bedrock.us-east-1.vpce.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com:443",
			"https://bedrock-runtime.us-east-1.amazonaws.com:8443",
			"https://bedrock-runtime.us-east-1.amazonaws.com:",
			"https://vpce-0.bedrock.us-east-1.vpce.amazonaws.com:1/path",
			"https://BEDROCK-Runtime.US-EAST-1.AmazonAWS.COM",
			"https://Bedrock-Mantle.us-east-1.API.AWS:443",
			"https://VPCE-0A.BEDROCK.US-EAST-1.VPCE.AMAZONAWS.COM",
			"https://user:secret@bedrock-runtime.us-east-1.amazonaws.com",
		},
	}, {
		kind: "Bedrock in GovCloud", region: "us-gov-west-1",
		addresses: []string{
			"https://bedrock-runtime.us-gov-west-1.amazonaws.com",
			"https://bedrock-runtime-fips.us-gov-west-1.api.aws",
			"https://vpce-0.bedrock.us-gov-west-1.vpce.amazonaws.com",
		},
	}, {
		kind: "a region of two digits", region: "us-east-11",
		addresses: []string{"https://bedrock-mantle.us-east-11.api.aws"},
	}, {
		kind: "loopback",
		addresses: []string{
			"http://localhost", "https://localhost:8443", "http://LocalHost:8080/path",
			"http://127.0.0.1:4566", "https://127.0.0.1", "http://127.8.9.10",
			"http://[::1]", "https://[::1]:8443", "http://[0:0:0:0:0:0:0:1]", "http://[::ffff:127.0.0.1]:80",
		},
	}, {
		kind: "given", hosts: given,
		addresses: []string{
			"https://gateway.example", "https://GATEWAY.example:8443/path", "https://bedrock.internal", "https://10.0.0.1",
			"https://[2001:DB8::1]:8443", "https://bücher.example",
			"https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.eu-central-1.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com", "http://localhost", // as without
		},
	}, {
		kind: "Bedrock in another region", want: bedrocktoken.ErrRegion, says: []string{"is in us-west-2", "for us-east-1"},
		addresses: []string{
			"https://bedrock-runtime.us-west-2.amazonaws.com/path?query",
			"https://bedrock.us-west-2.amazonaws.com",
			"https://bedrock-mantle.us-west-2.api.aws",
			"https://bedrock-runtime-fips.us-west-2.amazonaws.com:8443",
			"https://vpce-0a1b2c.bedrock-runtime.us-west-2.vpce.amazonaws.com",
			"https://BEDROCK.US-WEST-2.AMAZONAWS.COM",
			"https://user:secret@bedrock.us-west-2.amazonaws.com",
		},
	}, {
		kind: "regions alike", want: bedrocktoken.ErrRegion, says: []string{"is in us-east-11", "for us-east-1"},
		addresses: []string{"https://bedrock-runtime.us-east-11.amazonaws.com", "https://vpce-0.bedrock.us-east-11.vpce.amazonaws.com"},
	}, {
		kind: "regions alike, the other way round", region: "us-east-11", want: bedrocktoken.ErrRegion, says: []string{"is in us-east-1,", "for us-east-11"},
		addresses: []string{"https://bedrock-runtime.us-east-1.amazonaws.com"},
	}, {
		kind: "GovCloud from outside", want: bedrocktoken.ErrRegion, says: []string{"is in us-gov-west-1", "for us-east-1"},
		addresses: []string{"https://bedrock-runtime.us-gov-west-1.amazonaws.com"},
	}, {
		kind: "another region than that of a given host", hosts: given, want: bedrocktoken.ErrRegion, says: []string{"is in eu-west-1", "for us-east-1"},
		addresses: []string{"https://bedrock-runtime.eu-west-1.amazonaws.com"},
	}, {
		kind: "another scheme", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"http://bedrock-runtime.us-east-1.amazonaws.com/path?query",
			"http://bedrock-runtime.us-east-1.amazonaws.com:443",
			"http://bedrock-mantle.us-east-1.api.aws",
			"http://vpce-0.bedrock.us-east-1.vpce.amazonaws.com",
			"http://bedrock-runtime.us-west-2.amazonaws.com",
			"http://user:secret@bedrock-runtime.us-east-1.amazonaws.com",
			"wss://bedrock-runtime.us-east-1.amazonaws.com",
			"ftp://localhost", "ws://127.0.0.1", "https+unix://localhost",
		},
	}, {
		kind: "names that others can own", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://bedrock.us-east-1.s3.amazonaws.com",
			"https://bedrock.s3.us-east-1.amazonaws.com",
			"https://bedrock.s3.amazonaws.com",
			"https://bedrock.s3-us-west-2.amazonaws.com",
			"https://bedrock.s3-us-east-1.amazonaws.com",
			"https://bedrock.s3.dualstack.us-east-1.amazonaws.com",
			"https://bedrock.s3-website-us-east-1.amazonaws.com",
			"https://bedrock.s3-accelerate.amazonaws.com",
			"https://bedrock-runtime.us-east-1.s3-us-east-1.amazonaws.com",
			"https://bedrock-runtime.us-east-1.elb.amazonaws.com",
			"https://bedrock-runtime.elb.us-east-1.amazonaws.com",
			"https://bedrock.us-east-1.rds.amazonaws.com",
			"https://bedrock.execute-api.us-east-1.amazonaws.com",
			"https://bedrock.lambda-url.us-east-1.on.aws",
			"https://bedrock.us-east-1.elasticbeanstalk.com",
			"https://vpce-0.vpce-svc-0.us-east-1.vpce.amazonaws.com",
			"https://bedrock.vpce-0.s3.us-east-1.vpce.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com.example.com",
			"https://bedrock-mantle.us-east-1.api.aws.example.com",
			"https://vpce-0.bedrock.us-east-1.vpce.amazonaws.com.example.com",
			"https://bedrock-runtime.us-east-1.evilamazonaws.com",
			"https://bedrock-mantle.us-east-1.evil-api.aws",
			"https://bedrock-runtime.us-east-1.amazonaws.company",
			"https://bedrock-runtime-us-east-1.amazonaws.com.co",
			"https://evilbedrock-runtime.us-east-1.amazonaws.com",
			"https://evil.bedrock-runtime.us-east-1.amazonaws.com",
			"https://evilvpce-0.bedrock.us-east-1.vpce.amazonaws.com",
			"https://evil.vpce-0.bedrock.us-east-1.vpce.amazonaws.com",
			"https://vpce-0.evil.bedrock.us-east-1.vpce.amazonaws.com",
			"https://vpce-0.bedrock.evil.us-east-1.vpce.amazonaws.com",
			"https://vpce-0.bedrock.us-east-1.vpce.amazonaws.company",
		},
	}, {
		// Between them they have each dot replaced by another character, and each
		// part missing or malformed.
		kind: "no endpoint's name", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://bedrock-runtimexus-east-1.amazonaws.com", "https://bedrock-runtime.us-east-1xamazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonawsxcom", "https://bedrock-mantle.us-east-1.apixaws",
			"https://vpce-0xbedrock.us-east-1.vpce.amazonaws.com", "https://vpce-0.bedrockxus-east-1.vpce.amazonaws.com",
			"https://vpce-0.bedrock.us-east-1xvpce.amazonaws.com", "https://vpce-0.bedrock.us-east-1.vpcexamazonaws.com",
			"https://vpce-0.bedrock.us-east-1.vpce.amazonawsxcom",
			"https://bedrock.amazonaws.com", "https://bedrock.api.aws", "https://us-east-1.amazonaws.com",
			"https://vpce-0.bedrock.vpce.amazonaws.com", "https://vpce-0.us-east-1.vpce.amazonaws.com",
			"https://bedrock.us-east-1.vpce.amazonaws.com", "https://vpce-.bedrock.us-east-1.vpce.amazonaws.com",
			"https://vpce0.bedrock.us-east-1.vpce.amazonaws.com", "https://vpce-0.bedrock.us-east-1.amazonaws.com",
			"https://vpce-0.bedrock.us-east-1.api.aws", "https://vpce-0.bedrock.us-east-1.vpce.api.aws",
			"https://bedrock.us-east.amazonaws.com", "https://bedrock.us-1.amazonaws.com", "https://bedrock.us-east-1a.amazonaws.com",
			"https://bedrock.1-east-1.amazonaws.com", "https://bedrock.-us-east-1.amazonaws.com", "https://bedrock.us--east-1.amazonaws.com",
			"https://vpce-0.bedrock.us-east.vpce.amazonaws.com", "https://vpce-0.bedrock.us-1.vpce.amazonaws.com", "https://vpce-0.bedrock.s3-us-1.vpce.amazonaws.com",
			"https://bedrock_runtime.us-east-1.amazonaws.com", "https://vpce-0_1.bedrock.us-east-1.vpce.amazonaws.com", "https://vpce-0.bedrock_runtime.us-east-1.vpce.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com.", "https://bedrock-runtime..us-east-1.amazonaws.com", "https://.bedrock-runtime.us-east-1.amazonaws.com",
		},
	}, {
		// A region that NewProvider takes, as it is for emulators, and a bucket.
		kind: "a Provider whose region is none", region: "s3", want: bedrocktoken.ErrEndpoint,
		addresses: []string{"https://bedrock.s3.amazonaws.com", "https://bedrock.s3.api.aws", "https://vpce-0.bedrock.s3.vpce.amazonaws.com"},
	}, {
		kind: "other services and partitions", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://api.openai.com/path", "https://api.anthropic.com?query", "https://example.com", "https://10.0.0.1", "https://[2001:db8::1]",
			"https://s3.us-east-1.amazonaws.com", "https://sagemaker-runtime.us-east-1.amazonaws.com", "https://sts.us-east-1.api.aws",
			"https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.eusc-de-east-1.amazonaws.eu", "https://bedrock-runtime.us-iso-east-1.c2s.ic.gov",
		},
	}, {
		kind: "look-alikes in other scripts", hosts: given, want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://bedroc\u212a-runtime.us-east-1.amazonaws.com", // Kelvin sign, whose lower case is k
			"https://bedroc%E2%84%AA-runtime.us-east-1.amazonaws.com",
			"https://bedrock-runt\u0130me.us-east-1.amazonaws.com",     // capital I with a dot, whose lower case begins with i
			"https://bedrock-runtime.u\u017f-east-1.amazonaws.com",     // long s, whose upper case is S
			"https://bedr\u043eck-runtime.us-east-1.amazonaws.com",     // Cyrillic
			"https://bedrock-runtime.us-east-1.am\u0430zonaws.com",     // Cyrillic
			"https://\uff42edrock-runtime.us-east-1.amazonaws.com",     // full width
			"https://bedrock-runtime\u3002us-east-1.amazonaws.com",     // ideographic full stop
			"https://bedrock-runtime.us-east-\u0661.amazonaws.com",     // Arabic digit
			"https://xn--bedrock-runtime-9x0a.us-east-1.amazonaws.com", // Punycode
			"https://bedrock\u200b-runtime.us-east-1.amazonaws.com",    // zero-width space
			"https://vpce-0.bedroc\u212a.us-east-1.vpce.amazonaws.com", // Kelvin sign
			"https://\u212aiosk.example", "https://k\u0130osk.example", // hosts that were given
			"http://localho\u017ft", "http://loc\u0430lhost", // long s, Cyrillic
			"http://127.0.0.\uff11", "http://\u2460\u2461\u2466.0.0.\u2460", // other digits
		},
	}, {
		kind: "a name in the wrong place", hosts: given, want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://bedrock-runtime.us-east-1.amazonaws.com@stranger.example",
			"https://bedrock-runtime.us-east-1.amazonaws.com:secret@stranger.example/path",
			"https://gateway.example@stranger.example", "http://localhost@stranger.example", "http://127.0.0.1:secret@stranger.example",
			"https://stranger.example/path@bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example/path/bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example?query=bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example?query@bedrock-runtime.us-east-1.amazonaws.com",
			"https://stranger.example#@bedrock-runtime.us-east-1.amazonaws.com",
		},
	}, {
		kind: "not quite a given host", hosts: given, want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"http://gateway.example", "http://gateway.example:443", "http://10.0.0.1", "http://[2001:db8::1]", "ftp://gateway.example",
			"https://sub.gateway.example", "https://example", "https://gateway.example.", "https://gateway.example.com", "https://gateway",
			"https://10.0.0.2", "https://[2001:db8::2]", "https://xn--bcher-kva.example",
			"https://bedrock.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.cn-northwest-1.amazonaws.com.cn",
		},
	}, {
		kind:  "hosts that never match",
		hosts: []string{"https://gateway.example", "gateway.example:8443", "gateway.example/v1", "", "*", "*.example", ".example", "[2001:db8::1]", " gateway.example", "http://10.0.0.1"},
		want:  bedrocktoken.ErrEndpoint,
		says:  []string{`"https://gateway.example" "gateway.example:8443" "gateway.example/v1" "" "*" "*.example" ".example" "[2001:db8::1]" " gateway.example" "http://10.0.0.1"`},
		addresses: []string{
			"https://gateway.example", "https://gateway.example:8443", "https://api.openai.com", "https://[2001:db8::1]", "http://10.0.0.1",
		},
	}, {
		kind: "loopback in appearance", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"http://0.0.0.0", "https://0.0.0.0", "http://[::]", "http://128.0.0.1", "http://10.0.0.1", "http://169.254.169.254",
			"http://127.1", "http://2130706433", "http://0177.0.0.1", "http://0x7f.0.0.1", "http://[::1%25lo]", "http://[fe80::1]",
			"http://localhost.", "http://foo.localhost", "http://localhost.example.com", "http://127.0.0.1.example.com", "https://localhost.localdomain",
		},
	}, {
		kind: "no host", hosts: []string{"", "localhost"}, want: bedrocktoken.ErrEndpoint, says: []string{"no host"},
		addresses: []string{
			"", "/path", "https:", "https://", "http://", "https:///path", "https://:443", "http://:8080", "https:path", "https://user:secret@/path", "https://[]",
			"localhost:8080", "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime.us-east-1.amazonaws.com:443", "mailto:someone@localhost",
		},
	}, {
		kind: "no scheme", want: bedrocktoken.ErrEndpoint,
		addresses: []string{"//bedrock-runtime.us-east-1.amazonaws.com/path", "//localhost"},
	}, {
		kind: "no URL that url.Parse would return", want: bedrocktoken.ErrEndpoint,
		addresses: []string{
			"https://bedrock-runtime.us-east-1.amazonaws.com\n", "https://stranger.example\nbedrock-runtime.us-east-1.amazonaws.com",
			"https://bedrock-runtime.us-east-1.amazonaws.com\x00", "https://bedrock-runtime.us-east-1.amazonaws.com ",
			"https://bedrock-runtime.us-east-1.amazonaws.com:443:443", "https://bedrock-runtime.us-east-1.amazonaws.com:https",
			"https://bedrock-runtime.us-east-1.amazonaws.com%2eexample.com", `https://stranger.example\@bedrock-runtime.us-east-1.amazonaws.com`,
			"https://[bedrock-runtime.us-east-1.amazonaws.com", "https://\xff", "http://local\xffhost",
		},
	}, {
		kind: "very long", hosts: []string{strings.Repeat("c", 1<<14)}, want: bedrocktoken.ErrEndpoint,
		addresses: []string{"https://" + strings.Repeat("a", 1<<14) + ".example"},
	}, {
		kind: "very long, and a region", want: bedrocktoken.ErrRegion,
		addresses: []string{"https://bedrock." + strings.Repeat("a-", 1<<13) + "a-1.amazonaws.com"},
	}}
	for _, test := range tests {
		for _, address := range test.addresses {
			t.Run(fmt.Sprintf("%s/%.80q", test.kind, address), func(t *testing.T) {
				u, err := url.Parse(address)
				if err != nil { // a program can still build it by hand
					scheme, host, _ := strings.Cut(address, "://")
					u = &url.URL{Scheme: scheme, Host: host}
				}
				home := region
				if test.region != "" {
					home = test.region
				}
				var seen []*http.Request
				source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey}, nil
				})
				hosts := slices.Clone(test.hosts)
				rt := newProvider(t, source, bedrocktoken.WithRegion(home)).Transport(answer(&seen), hosts...)
				clear(hosts) // it is the caller's
				sent := &body{Reader: strings.NewReader("x")}
				response, err := rt.RoundTrip(&http.Request{Method: "POST", URL: u, Body: sent})
				if sent.closed != 1 {
					t.Errorf("the body was closed %d times", sent.closed)
				}
				if test.want == nil {
					if err != nil || len(seen) != 1 {
						t.Fatalf("%d requests sent, error %v", len(seen), err)
					}
					accept(t, bearerOf(seen[0]), home, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
					return
				}

				if len(seen) != 0 || source.Calls() != 0 || response != nil {
					t.Errorf("%d requests sent, %d retrievals", len(seen), source.Calls())
				}
				for _, kind := range []error{bedrocktoken.ErrRegion, bedrocktoken.ErrEndpoint, bedrocktoken.ErrCredentials} {
					if errors.Is(err, kind) != (kind == test.want) {
						t.Fatalf("error is %v, want %v", err, test.want)
					}
				}
				says := test.says
				if u.Hostname() != "" {
					quoted := strconv.Quote(u.Scheme + "://" + u.Host)
					says = append([]string{quoted[:min(len(quoted), 100)]}, says...)
					if test.want == bedrocktoken.ErrEndpoint { // and what to do
						listed := fmt.Sprintf("%q", test.hosts)
						says = append(says, "base URL", "https address in "+home, "Transport", listed[:min(len(listed), 60)])
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
				if len(err.Error()) > 1000 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
			})
		}
	}
}
