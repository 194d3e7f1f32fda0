package bedrocktoken_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// Formatting a Provider, a transport or an option shows no secret.
func TestFormattingShowsNoSecret(t *testing.T) {
	awstest.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken})
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
	sources := sources(creds)
	sources["cached static"] = aws.NewCredentialsCache(sources["static"])
	sources["pointer"] = &credentials.StaticCredentialsProvider{Value: creds}
	sources["default chain"] = nil
	for name, source := range sources {
		provider := newProvider(t, source)
		token := tokenOf(t, provider)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			for _, value := range []any{
				provider, *provider, &provider, provider.Transport(nil), []any{provider}, struct{ P *bedrocktoken.Provider }{provider},
				bedrocktoken.WithCredentialsProvider(source),
			} {
				printed := fmt.Sprintf(verb, value)
				for _, secret := range []string{secretKey, sessionToken, hex.EncodeToString([]byte(secretKey)), token} {
					if strings.Contains(printed, secret) {
						t.Errorf("%s: %s of a %T shows a secret: %s", name, verb, value, printed)
					}
				}
			}
		}
	}
}

// A Provider that was not made by NewProvider returns errors and does not panic.
func TestZeroProvider(t *testing.T) {
	for name, provider := range map[string]*bedrocktoken.Provider{"nil": nil, "zero": new(bedrocktoken.Provider)} {
		t.Run(name, func(t *testing.T) {
			if got := provider.Region(); got != "" {
				t.Errorf("Region returns %q", got)
			}
			errorOf(t, provider)
			if other, err := provider.ForRegion(region); !errors.Is(err, bedrocktoken.ErrCredentials) || other != nil {
				t.Errorf("ForRegion: got %v and error %v, want ErrCredentials", other, err)
			}
			for address, want := range map[string]error{"http://localhost": bedrocktoken.ErrCredentials, runtimeURL: bedrocktoken.ErrRegion} {
				base := new(recorder)
				_, err := provider.Transport(base).RoundTrip(httptest.NewRequest("GET", address, nil))
				if !errors.Is(err, want) || len(base.seen) != 0 {
					t.Errorf("%s: %d requests sent, error %v, want %v", address, len(base.seen), err, want)
				}
			}
		})
	}
}

// A call whose context is done returns the context's error, whatever the source does.
func TestContextIsHeeded(t *testing.T) {
	t.Run("before a call", func(t *testing.T) {
		source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return longTerm, nil })
		raw, static := newProvider(t, source), newProvider(t, static(accessKeyID, secretKey, ""))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, provider := range map[string]*bedrocktoken.Provider{"raw": raw, "static": static} {
			if token, err := provider.Token(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Errorf("%s: got %q and error %v, want Canceled", name, token, err)
			}
		}
		if _, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source)); !errors.Is(err, context.Canceled) {
			t.Errorf("NewProvider: error %v, want Canceled", err)
		}
		if tokenOf(t, raw); source.Calls() != 1 {
			t.Errorf("%d retrievals, want none before this one", source.Calls())
		}
	})
	t.Run("while the config is loaded", func(t *testing.T) {
		t.Setenv("AWS_PROFILE", "nobody")
		_, err := bedrocktoken.NewProvider(&endingContext{Context: t.Context()})
		if !errors.Is(err, context.Canceled) || errors.Is(err, bedrocktoken.ErrCredentials) {
			t.Errorf("error %v, want Canceled", err)
		}
	})
	t.Run("as the credentials come", func(t *testing.T) {
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				cancel()
				return longTerm, nil
			}))
			if token, err := provider.Token(ctx); !errors.Is(err, context.Canceled) || token != "" {
				t.Fatalf("got %q and error %v, want Canceled", token, err)
			}
		}
	})
	t.Run("nil", func(t *testing.T) {
		var none context.Context
		if token, err := bedrocktoken.ProvideToken(none); err == nil || token != "" {
			t.Errorf("ProvideToken: got %q and error %v", token, err)
		}
		for kind, source := range sources(longTerm) {
			if token, err := newProvider(t, source).Token(none); err == nil || token != "" {
				t.Errorf("%s: got %q and error %v", kind, token, err)
			}
		}
	})
}

// An endingContext is done after the first call of Err.
type endingContext struct {
	context.Context
	looks int
}

func (c *endingContext) Err() error {
	if c.looks++; c.looks > 1 {
		return context.Canceled
	}
	return nil
}

// One retrieval and one renewal serve all regions, and with the source down the
// second region is served as the first.
func TestForRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority awstest.Authority
		source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
			creds := authority.Issue(time.Hour)
			creds.Source = stscreds.ProviderName
			return creds, nil
		})
		first := newProvider(t, source, bedrocktoken.WithExpiry(30*time.Minute))
		second, err := first.ForRegion("us-west-2")
		if err != nil {
			t.Fatal(err)
		}
		both := func(retrievals int) {
			t.Helper()
			for region, provider := range map[string]*bedrocktoken.Provider{region: first, "us-west-2": second} {
				verified := signedBy(t, tokenOf(t, provider), region, authority.Newest())
				if verified.Expiry != 30*time.Minute || provider.Region() != region {
					t.Errorf("%s: region %q and expiry %v", region, provider.Region(), verified.Expiry)
				}
			}
			if synctest.Wait(); source.Calls() != retrievals {
				t.Errorf("%d retrievals, want %d", source.Calls(), retrievals)
			}
		}
		both(1)
		time.Sleep(45 * time.Minute)
		tokenOf(t, second) // at which the renewal begins
		synctest.Wait()
		both(2)
		source.Set(failing(context.DeadlineExceeded).Retrieve)
		time.Sleep(3 * time.Hour)
		both(3)

	})
}

// A token expires after its expiry, or with its credentials if that is earlier, and
// is said to in UTC.
func TestTokenExpiresWithCredentials(t *testing.T) {
	const expiry = 30 * time.Minute
	for _, life := range []time.Duration{0, expiry - time.Nanosecond, expiry, expiry + time.Nanosecond, 36 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				creds := aws.Credentials{
					AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: life > 0, Expires: time.Now().Add(life).In(time.FixedZone("", 19800)),
				}
				for kind, source := range sources(creds) {
					token, err := newProvider(t, source, bedrocktoken.WithExpiry(expiry)).RetrieveBearerToken(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if verified := signedBy(t, token.Value, region, creds); verified.Expiry != expiry {
						t.Errorf("%s: signed for %v, want %v", kind, verified.Expiry, expiry)
					}
					want := time.Now().Add(expiry)
					if life > 0 && life < expiry {
						want = creds.Expires
					}
					if !token.CanExpire || !token.Expires.Equal(want) || token.Expires.Location() != time.UTC {
						t.Errorf("%s: said to expire at %v, want %v", kind, token.Expires, want.UTC())
					}
				}
			})
		})
	}
}
