package bedrocktoken_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// A token expires after its expiry, or with its credentials if that is earlier.
func TestTokenExpiresWithCredentials(t *testing.T) {
	const expiry = 30 * time.Minute
	for _, life := range []time.Duration{expiry - time.Nanosecond, expiry, expiry + time.Nanosecond, 36 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				creds := authority.Issue(life)
				for kind, source := range providers(creds) {
					token, err := newProvider(t, source, bedrocktoken.WithExpiry(expiry)).RetrieveBearerToken(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					verified, err := authority.verify(token.Value)
					if err != nil || verified.Expiry != expiry {
						t.Errorf("%s: signed for %v, want %v; error %v", kind, verified.Expiry, expiry, err)
					}
					if want := time.Now().Add(min(life, expiry)); !token.CanExpire || !token.Expires.Equal(want) {
						t.Errorf("%s: said to expire at %v, want %v", kind, token.Expires, want)
					}
				}
			})
		})
	}
	t.Run("without an expiry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, Expires: time.Now()} // but they cannot expire
			for kind, source := range providers(creds) {
				token, err := newProvider(t, source, bedrocktoken.WithExpiry(expiry)).RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if want := time.Now().Add(expiry); !token.CanExpire || !token.Expires.Equal(want) {
					t.Errorf("%s: said to expire at %v, want %v", kind, token.Expires, want)
				}
			}
		})
	})
	t.Run("error", func(t *testing.T) {
		for kind, source := range providers(aws.Credentials{}) {
			if token, err := newProvider(t, source).RetrieveBearerToken(t.Context()); err == nil || token != (bearer.Token{}) {
				t.Errorf("%s: got %+v and error %v", kind, token, err)
			}
		}
	})
}

// An aws.CredentialsCache is asked for each token: invalidating it takes effect at
// once, and the time that it reports counts, even if it has passed.
func TestCredentialsCacheIsNotCached(t *testing.T) {
	for _, life := range []time.Duration{time.Hour, 20 * time.Minute, 3 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			var out bool
			source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
				if out {
					return aws.Credentials{}, errRefused
				}
				return authority.Issue(life), nil
			})
			cache := aws.NewCredentialsCache(source, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 20 * time.Minute })
			provider := newProvider(t, cache)
			for range 3 {
				token, verified := authority.token(t, provider)
				if verified.AccessKeyID != authority.Newest().AccessKeyID {
					t.Errorf("signed by %s, want %s", verified.AccessKeyID, authority.Newest().AccessKeyID)
				}
				if want := authority.Newest().Expires.Add(-20 * time.Minute); !token.Expires.Equal(want) {
					t.Errorf("expires at %v, want %v", token.Expires, want)
				}
				cache.Invalidate()
			}
			if n := source.Calls(); n != 3 {
				t.Errorf("%d retrievals, want 3", n)
			}
			out = true
			if _, err := newProvider(t, cache).Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || !errors.Is(err, errRefused) {
				t.Errorf("error is %v, want ErrCredentials around the source's", err)
			}
		})
	}
}

// A Provider signs at most once a second. In between the token is the same and its
// call allocates nothing, unless the credentials change or expire.
func TestOneSignatureASecond(t *testing.T) {
	get := func(t *testing.T, provider *bedrocktoken.Provider) string {
		t.Helper()
		token, err := provider.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	t.Run("and no longer", func(t *testing.T) {
		for kind := range providers(aws.Credentials{}) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				provider := newProvider(t, providers(authority.Issue(time.Hour))[kind])
				last := ""
				for range 10 {
					token := get(t, provider)
					if token == last {
						t.Errorf("%s: the token of the second before", kind)
					}
					if _, err := authority.verify(token); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second - time.Nanosecond)
					if get(t, provider) != token {
						t.Errorf("%s: another token within the second", kind)
					}
					time.Sleep(time.Nanosecond)
					last = token
				}
			})
		}
	})
	t.Run("rotation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			cache := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return authority.Issue(time.Hour), nil }))
			provider := newProvider(t, cache)
			for range 3 {
				_, verified := authority.token(t, provider)
				if verified.AccessKeyID != authority.Newest().AccessKeyID {
					t.Errorf("signed by %s, want %s", verified.AccessKeyID, authority.Newest().AccessKeyID)
				}
				cache.Invalidate()
			}
		})
	})
	// They can change and keep the access key ID.
	t.Run("other secret or expiration", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var creds aws.Credentials
			cache := aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil }))
			provider := newProvider(t, cache)
			hour := time.Now().Add(time.Hour)
			for _, creds = range []aws.Credentials{
				{AccessKeyID: accessKeyID, SecretAccessKey: "one", CanExpire: true, Expires: hour},
				{AccessKeyID: accessKeyID, SecretAccessKey: "two", CanExpire: true, Expires: hour},
				{AccessKeyID: accessKeyID, SecretAccessKey: "two", SessionToken: "session", CanExpire: true, Expires: hour},
				{AccessKeyID: accessKeyID, SecretAccessKey: "two", SessionToken: "session", CanExpire: true, Expires: hour.Add(time.Second)},
			} {
				cache.Invalidate()
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				accept(t, token.Value, region, creds)
				if !token.Expires.Equal(creds.Expires) {
					t.Errorf("expires at %v, want %v", token.Expires, creds.Expires)
				}
			}
		})
	})
	t.Run("expired within the second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			creds := authority.Issue(500 * time.Millisecond)
			provider := newProvider(t, providers(creds)["raw"])
			get(t, provider)
			time.Sleep(500*time.Millisecond - time.Nanosecond)
			get(t, provider)
			time.Sleep(time.Nanosecond)
			if token, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Errorf("got %q and error %v, want ErrCredentials", token, err)
			}
		})
	})
	t.Run("free", func(t *testing.T) {
		for kind := range providers(aws.Credentials{}) {
			synctest.Test(t, func(t *testing.T) { // where it stays the same second
				provider := newProvider(t, providers(new(authority).Issue(time.Hour))[kind])
				ctx := t.Context()
				get(t, provider)
				if n := testing.AllocsPerRun(100, func() { provider.Token(ctx) }); n != 0 {
					t.Errorf("%s: %v allocations", kind, n)
				}
			})
		}
	})
}

// A call returns when its context is done, whatever the source does.
func TestContextEndsWait(t *testing.T) {
	hanging := func(release <-chan struct{}, authority *authority) *awstest.Source {
		return awstest.NewSource(func(context.Context) (aws.Credentials, error) { // ignores its context
			<-release
			return authority.Issue(time.Hour), nil
		})
	}

	// The caller whose call began the retrieval leaves, and so does another. The same
	// retrieval serves the rest.
	t.Run("while the source hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			release := make(chan struct{})
			source := hanging(release, &authority)
			provider := newProvider(t, source)
			var callers sync.WaitGroup
			defer callers.Wait()

			start := time.Now()
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				token, err := provider.Token(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
					t.Errorf("got %q and error %v, want DeadlineExceeded", token, err)
				}
				if waited := time.Since(start); waited != time.Second {
					t.Errorf("returned after %v, want 1s", waited)
				}
			})
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			callers.Go(func() {
				token, err := provider.Token(ctx)
				if !errors.Is(err, context.Canceled) || token != "" {
					t.Errorf("got %q and error %v, want Canceled", token, err)
				}
				if waited := time.Since(start); waited != 2*time.Second {
					t.Errorf("returned after %v, want 2s", waited)
				}
			})
			for range 10 {
				callers.Go(func() {
					token, err := provider.Token(t.Context())
					if err != nil {
						t.Error(err)
					} else if _, err := authority.verify(token); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(2 * time.Second)
			cancel()
			time.Sleep(30 * time.Second)
			close(release)
			callers.Wait()
			if n := source.Calls(); n != 1 {
				t.Errorf("%d retrievals, want 1", n)
			}
		})
	})

	t.Run("ProvideToken while the source hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			token, err := bedrocktoken.ProvideToken(ctx, bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(hanging(release, new(authority))))
			if !errors.Is(err, context.DeadlineExceeded) || token != "" {
				t.Errorf("got %q and error %v, want DeadlineExceeded", token, err)
			}
		})
	})

	t.Run("before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return authority.Issue(time.Hour), nil })
			raw, cached, static := newProvider(t, source), newProvider(t, aws.NewCredentialsCache(source)), newProvider(t, static(accessKeyID, secretKey, ""))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for name, provider := range map[string]*bedrocktoken.Provider{"raw": raw, "cached": cached, "static": static} {
				if token, err := provider.Token(ctx); !errors.Is(err, context.Canceled) || token != "" {
					t.Errorf("%s: got %q and error %v, want Canceled", name, token, err)
				}
			}
			if _, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source)); !errors.Is(err, context.Canceled) {
				t.Errorf("NewProvider: error %v, want Canceled", err)
			}
			synctest.Wait()
			if n := source.Calls(); n != 0 {
				t.Errorf("%d retrievals, want none", n)
			}
		})
	})

	t.Run("while loading", func(t *testing.T) {
		t.Setenv("AWS_PROFILE", "nobody")
		_, err := bedrocktoken.NewProvider(&endingContext{Context: t.Context()})
		if !errors.Is(err, context.Canceled) || errors.Is(err, bedrocktoken.ErrCredentials) {
			t.Errorf("error %v, want Canceled", err)
		}
	})

	// The context is done at the moment at which the credentials come.
	t.Run("at the same time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					cancel()
					return new(authority).Issue(time.Hour), nil
				}))
				if token, err := provider.Token(ctx); !errors.Is(err, context.Canceled) || token != "" {
					t.Fatalf("got %q and error %v, want Canceled", token, err)
				}
			}
		})
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

// A nil context is an error.
func TestNilContext(t *testing.T) {
	var none context.Context
	if token, err := bedrocktoken.ProvideToken(none); err == nil || token != "" {
		t.Errorf("ProvideToken: got %q and error %v", token, err)
	}
	if token, err := newProvider(t, static(accessKeyID, secretKey, "")).Token(none); err == nil || token != "" {
		t.Errorf("Token: got %q and error %v", token, err)
	}
}

// A Provider that was not made by NewProvider returns errors and does not panic.
func TestZeroProvider(t *testing.T) {
	for name, provider := range map[string]*bedrocktoken.Provider{"nil": nil, "zero": new(bedrocktoken.Provider)} {
		t.Run(name, func(t *testing.T) {
			if got := provider.Region(); got != "" {
				t.Errorf("Region returns %q", got)
			}
			if token, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Errorf("Token: got %q and error %v, want ErrCredentials", token, err)
			}
			if other, err := provider.ForRegion(region); !errors.Is(err, bedrocktoken.ErrCredentials) || other != nil {
				t.Errorf("ForRegion: got %v and error %v, want ErrCredentials", other, err)
			}
			for address, want := range map[string]error{
				"http://localhost":         bedrocktoken.ErrCredentials,
				"https://gateway.example":  bedrocktoken.ErrCredentials,
				"https://stranger.example": bedrocktoken.ErrEndpoint,
				runtimeURL:                 bedrocktoken.ErrRegion,
			} {
				var seen []*http.Request
				_, err := provider.Transport(answer(&seen), "gateway.example").RoundTrip(httptest.NewRequest("GET", address, nil))
				if !errors.Is(err, want) || len(seen) != 0 {
					t.Errorf("%s: %d requests sent, error %v, want %v", address, len(seen), err, want)
				}
			}
		})
	}
}

// Formatting a Provider, a transport or an option shows no secret.
func TestFormattingShowsNoSecret(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", accessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	t.Setenv("AWS_SESSION_TOKEN", sessionToken)
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
	sources := providers(creds)
	sources["cached static"] = aws.NewCredentialsCache(sources["static"])
	sources["pointer"] = &credentials.StaticCredentialsProvider{Value: creds}
	sources["default chain"] = nil
	for name, source := range sources {
		provider := newProvider(t, source)
		if _, err := provider.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			for _, value := range []any{
				provider, *provider, provider.Transport(nil), []any{provider}, struct{ P *bedrocktoken.Provider }{provider},
				bedrocktoken.WithCredentialsProvider(source),
			} {
				printed := fmt.Sprintf(verb, value)
				for _, secret := range []string{secretKey, sessionToken, hex.EncodeToString([]byte(secretKey)), "bedrock-api-key-"} {
					if strings.Contains(printed, secret) {
						t.Errorf("%s: %s of a %T shows a secret: %s", name, verb, value, printed)
					}
				}
			}
		}
	}
}
