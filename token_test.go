package bedrocktoken_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // for machines without it

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

type officialToken struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token"`
	Region          string    `json:"region"`
	ExpirySeconds   int       `json:"expiry_seconds"`
	SigningTime     time.Time `json:"signing_time"`
	Python          string    `json:"python"`
	JavaScript      string    `json:"javascript"`
}

// The tokens are those of the official generators: they have the same parameters
// and, without a session token, the same bytes as Python's.
func TestTokensAreTheOfficialOnes(t *testing.T) {
	data, err := os.ReadFile("testdata/official_tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var official []officialToken
	if err := json.Unmarshal(data, &official); err != nil {
		t.Fatal(err)
	}
	withSession := 0
	for _, o := range official {
		if o.SessionToken != "" {
			withSession++
		}
	}
	if withSession == 0 || withSession == len(official) {
		t.Fatalf("%d of %d tokens have a session token: both kinds are needed", withSession, len(official))
	}
	for _, o := range official {
		t.Run(o.AccessKeyID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(o.SigningTime))
				creds := aws.Credentials{AccessKeyID: o.AccessKeyID, SecretAccessKey: o.SecretAccessKey, SessionToken: o.SessionToken}
				got, err := bedrocktoken.ProvideToken(t.Context(),
					bedrocktoken.WithRegion(o.Region),
					bedrocktoken.WithCredentialsProvider(static(o.AccessKeyID, o.SecretAccessKey, o.SessionToken)),
					bedrocktoken.WithExpiry(time.Duration(o.ExpirySeconds)*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				for generator, token := range map[string]string{"ours": got, "Python": o.Python, "JavaScript": o.JavaScript} {
					accept(t, token, o.Region, creds)
					if want, have := decode(t, token), decode(t, got); !reflect.DeepEqual(have, want) {
						t.Errorf("ours has %v, %s's %v", have, generator, want)
					}
				}
				if o.SessionToken == "" && got != o.Python {
					t.Errorf("got  %s\nwant %s", got, o.Python)
				}
			})
		})
	}
}

// decode returns the parameters of a token, with its host and path as "target".
func decode(t *testing.T, token string) map[string][]string {
	t.Helper()
	target, query, err := verify.Decode(token)
	if err != nil {
		t.Fatal(err)
	}
	query["target"] = []string{target}
	return query
}

// An expiry from 1 second to 12 hours is what the token is signed for, in whole
// seconds, and the default is 12 hours. Anything else is ErrExpiry.
func TestExpiryIsChecked(t *testing.T) {
	good := []time.Duration{
		time.Second, time.Second + 1, 2*time.Second - 1, 1500 * time.Millisecond, time.Minute, time.Hour,
		12*time.Hour - time.Second, 12*time.Hour - 1, 12 * time.Hour,
	}
	for _, expiry := range good {
		t.Run(expiry.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1999 * time.Millisecond) // since a token has whole seconds only
				provider := newProvider(t, static(accessKeyID, secretKey, ""), bedrocktoken.WithExpiry(expiry))
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				verified := accept(t, token.Value, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
				if want := expiry.Truncate(time.Second); verified.Expiry != want {
					t.Errorf("signed for %v, want %v", verified.Expiry, want)
				}
				if want := verified.SigningTime.Add(verified.Expiry); !token.CanExpire || !token.Expires.Equal(want) {
					t.Errorf("said to expire at %v, want %v", token.Expires, want)
				}
			})
		})
	}
	bad := []time.Duration{
		0, 1, time.Second - 1, -1, -time.Second, -12 * time.Hour, 12*time.Hour + 1, 12*time.Hour + time.Second, 24 * time.Hour,
		1<<63 - 1, -1 << 63, time.Duration(3600),
	}
	for _, expiry := range bad {
		t.Run(expiry.String(), func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(),
				bedrocktoken.WithRegion(region),
				bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")),
				bedrocktoken.WithExpiry(expiry))
			if !errors.Is(err, bedrocktoken.ErrExpiry) || token != "" {
				t.Fatalf("got %q and error %v, want ErrExpiry", token, err)
			}
			for _, part := range []string{expiry.String(), "1s", "12h0m0s"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not show %s: %v", part, err)
				}
			}
		})
	}
	t.Run("default", func(t *testing.T) {
		token, err := newProvider(t, static(accessKeyID, secretKey, "")).Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		verified := accept(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
		if verified.Expiry != 12*time.Hour {
			t.Errorf("signed for %v, want 12 hours", verified.Expiry)
		}
	})
}

// Credentials with any characters that keys can have sign a token that is accepted.
// Those that are incomplete, malformed or expired are ErrCredentials, in words that
// show no secret.
func TestCredentialsAreChecked(t *testing.T) {
	good := map[string]aws.Credentials{
		"long-term":   {AccessKeyID: accessKeyID, SecretAccessKey: secretKey},
		"temporary":   {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken},
		"slash":       {AccessKeyID: accessKeyID, SecretAccessKey: "////////////////////////////////////////"},
		"plus":        {AccessKeyID: accessKeyID, SecretAccessKey: "++++++++++++++++++++++++++++++++++++++++"},
		"equals":      {AccessKeyID: accessKeyID, SecretAccessKey: "========================================"},
		"punctuation": {AccessKeyID: "a/b&c=d?e#f%20", SecretAccessKey: `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`, SessionToken: `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~`},
		// The only unreserved character whose base64 can have a plus sign.
		"tilde":           {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: "~~~~"},
		"emulator":        {AccessKeyID: "test", SecretAccessKey: "test"},
		"not expired yet": {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(time.Minute)},
		"no expiry":       {AccessKeyID: accessKeyID, SecretAccessKey: secretKey, Expires: time.Now().Add(-time.Minute)},
	}
	for n := 16; n <= 4000; n += 83 {
		good["session token of "+strconv.Itoa(n)] = aws.Credentials{
			AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: strings.Repeat("a/b+c=", n/6+1)[:n],
		}
	}
	for name, creds := range good {
		t.Run(name, func(t *testing.T) {
			for kind, provider := range providers(creds) {
				token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider))
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				accept(t, token, region, creds)
			}
		})
	}

	bad := map[string]struct {
		creds aws.Credentials
		says  string
	}{
		"none":                     {aws.Credentials{}, "missing"},
		"session token alone":      {aws.Credentials{SessionToken: sessionToken}, "missing"},
		"no secret":                {aws.Credentials{AccessKeyID: accessKeyID}, "secret access key is missing"},
		"no id":                    {aws.Credentials{SecretAccessKey: secretKey}, "access key ID is missing"},
		"temporary, no token":      {aws.Credentials{AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretAccessKey: secretKey}, "session token is missing"},
		"expired":                  {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(-time.Nanosecond)}, "expired at"},
		"long expired":             {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true}, "expired at"},
		"line break after id":      {aws.Credentials{AccessKeyID: accessKeyID + "\n", SecretAccessKey: secretKey}, "access key ID contains"},
		"line break after secret":  {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey + "\n"}, "secret access key contains"},
		"line break after session": {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken + "\r\n"}, "session token contains"},
		"blank secret":             {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: " "}, "secret access key contains"},
		"tabulator":                {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey + "\t"}, "secret access key contains"},
		"DEL":                      {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey + "\x7f"}, "secret access key contains"},
		"NUL":                      {aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: "\x00"}, "secret access key contains"},
		"not ASCII":                {aws.Credentials{AccessKeyID: "AKIÀ", SecretAccessKey: secretKey}, "access key ID contains"},
	}
	for name, test := range bad {
		t.Run(name, func(t *testing.T) {
			for kind, provider := range providers(test.creds) {
				if kind == "cached" && test.creds.HasKeys() && test.creds.CanExpire {
					continue // whether a cache's credentials have expired is left to the cache
				}
				token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider))
				if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
					t.Fatalf("%s: got %q and error %v, want ErrCredentials", kind, token, err)
				}
				if kind != "static" && !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: error %q does not say %q", kind, err, test.says)
				}
				for _, secret := range []string{test.creds.SecretAccessKey, test.creds.SessionToken} {
					if len(secret) > 1 && strings.Contains(err.Error(), secret) {
						t.Errorf("%s: the error shows a secret: %v", kind, err)
					}
				}
			}
		})
	}

	t.Run("anonymous", func(t *testing.T) {
		for _, provider := range []aws.CredentialsProvider{
			aws.AnonymousCredentials{}, &aws.AnonymousCredentials{}, aws.NewCredentialsCache(aws.AnonymousCredentials{}),
		} {
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider))
			if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Errorf("%T: got %q and error %v, want ErrCredentials", provider, token, err)
			}
		}
	})
}

// A token made after midnight is signed for the new day, by a Provider that made one
// before it.
func TestTokenAfterMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
		provider := newProvider(t, static(accessKeyID, secretKey, sessionToken))
		midnight := time.Date(2031, time.December, 31, 24, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(midnight.Add(-time.Nanosecond)))
		for _, want := range []string{"20311231", "20320101"} {
			token, err := provider.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			verified := accept(t, token, region, creds)
			if got := verified.SigningTime.Format("20060102"); got != want {
				t.Errorf("signed on %s, want %s", got, want)
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

// The machine's time zone does not matter. Each zone is that of a process of its
// own: to set time.Local is a race with whatever looks at the clock.
func TestTimeZoneDoesNotMatter(t *testing.T) {
	const child = "BEDROCKTOKEN_TEST_ZONE"
	if os.Getenv(child) == "" {
		for _, zone := range []string{"Pacific/Kiritimati", "UTC", "Pacific/Pago_Pago"} {
			t.Run(zone, func(t *testing.T) {
				t.Parallel()
				command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTimeZoneDoesNotMatter$")
				command.Env = append(os.Environ(), child+"=yes", "TZ="+zone)
				if output, err := command.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, output)
				}
			})
		}
		return
	}
	// Windows takes its zone from elsewhere.
	zone, err := time.LoadLocation(os.Getenv("TZ"))
	if now := time.Now(); err != nil || now.In(zone).Hour() != now.Hour() && runtime.GOOS != "windows" {
		t.Fatalf("it is %v, which is not in the zone %v; error %v", now, zone, err)
	}
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(time.Hour)}
	token, err := newProvider(t, providers(creds)["raw"]).RetrieveBearerToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accept(t, token.Value, region, creds)
	if !token.Expires.Equal(creds.Expires) || token.Expires.Location() != time.UTC {
		t.Errorf("said to expire at %v, want %v in UTC", token.Expires, creds.Expires)
	}
	token, err = newProvider(t, static(accessKeyID, secretKey, "")).RetrieveBearerToken(t.Context())
	if err != nil || token.Expires.Location() != time.UTC {
		t.Errorf("said to expire at %v, want UTC; error %v", token.Expires, err)
	}
}

// Whatever the input, there is a token that is accepted or an error of a known kind.
func FuzzProvideToken(f *testing.F) {
	f.Add(region, accessKeyID, secretKey, "", int64(time.Hour))
	f.Add("eu-central-2", accessKeyID, secretKey, sessionToken, int64(12*time.Hour))
	f.Add("us-east-1\n", "a/b", "=", "&", int64(-1))
	f.Add("", "", "", "", int64(0))
	f.Fuzz(func(t *testing.T, region, accessKeyID, secretKey, sessionToken string, expiry int64) {
		creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
		token, err := bedrocktoken.ProvideToken(t.Context(),
			bedrocktoken.WithRegion(region),
			bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, sessionToken)),
			bedrocktoken.WithExpiry(time.Duration(expiry)))
		if err != nil {
			if token != "" {
				t.Errorf("both a token and error %v", err)
			}
			if !errors.Is(err, bedrocktoken.ErrRegion) && !errors.Is(err, bedrocktoken.ErrCredentials) && !errors.Is(err, bedrocktoken.ErrExpiry) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		verified := accept(t, token, region, creds)
		if verified.Expiry != time.Duration(expiry).Truncate(time.Second) {
			t.Errorf("signed for %v, want %v", verified.Expiry, time.Duration(expiry))
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("not fit for a header: %q", token)
		}
		if decoded, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "bedrock-api-key-")); len(secretKey) > 8 && strings.Contains(string(decoded), secretKey) &&
			!strings.Contains(accessKeyID+sessionToken+region, secretKey) {
			t.Errorf("the token shows the secret: %q", decoded)
		}
	})
}
