package bedrocktoken_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

func newProvider(t testing.TB, source aws.CredentialsProvider, opts ...bedrocktoken.Option) *bedrocktoken.Provider {
	t.Helper()
	opts = append([]bedrocktoken.Option{bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source)}, opts...)
	provider, err := bedrocktoken.NewProvider(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// A source is a raw credentials provider that counts its retrievals.
type source struct {
	calls    atomic.Int32
	retrieve func(context.Context) (aws.Credentials, error)
}

func (s *source) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.calls.Add(1)
	return s.retrieve(ctx)
}

// An authority issues credentials, and lets tokens be verified that were signed
// with any of them while they live.
type authority struct {
	mu     sync.Mutex
	issued map[string]aws.Credentials
	last   aws.Credentials
}

func (a *authority) issue(life time.Duration) aws.Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.issued)
	a.last = aws.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIAEXAMPLE%09d", n),
		SecretAccessKey: fmt.Sprintf("secret/of+number=%d", n),
		SessionToken:    fmt.Sprintf("session/of+number=%d", n),
		CanExpire:       true,
		Expires:         time.Now().Add(life),
	}
	if a.issued == nil {
		a.issued = map[string]aws.Credentials{}
	}
	a.issued[a.last.AccessKeyID] = a.last
	return a.last
}

func (a *authority) verify(token string) (verify.Token, error) {
	return verify.Service{Region: region, Secret: func(id, session string) (string, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		creds, ok := a.issued[id]
		switch {
		case !ok || creds.SessionToken != session:
			return "", errors.New("never issued")
		case !time.Now().Before(creds.Expires):
			return "", fmt.Errorf("dead since %v", time.Since(creds.Expires))
		}
		return creds.SecretAccessKey, nil
	}}.Verify(token)
}

// token returns a token of provider that is found good, or ends the test.
func (a *authority) token(t *testing.T, provider *bedrocktoken.Provider) (bearer.Token, verify.Token) {
	t.Helper()
	token, err := provider.RetrieveBearerToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verified, err := a.verify(token.Value)
	if err != nil {
		t.Fatal(err)
	}
	return token, verified
}

var errOutage = errors.New("the source is out of order")

func TestConcurrentColdCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		source := &source{retrieve: func(context.Context) (aws.Credentials, error) {
			time.Sleep(time.Second)
			return authority.issue(time.Hour), nil
		}}
		provider := newProvider(t, source)
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				token, err := provider.Token(t.Context())
				if err != nil {
					t.Error(err)
				} else if _, err := authority.verify(token); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if n := source.calls.Load(); n != 1 {
			t.Errorf("%d retrievals, want 1", n)
		}
	})
}

// The end of a token is that of its expiry or of its credentials.
func TestExpires(t *testing.T) {
	const expiry = 30 * time.Minute
	for _, life := range []time.Duration{expiry - time.Nanosecond, expiry, expiry + time.Nanosecond, 36 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				creds := authority.issue(life)
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
	t.Run("for good", func(t *testing.T) {
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

// A cache is used as it is: invalidating it shows at once, and so does its
// window in the time that is reported.
func TestCacheUsedAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		source := &source{retrieve: func(context.Context) (aws.Credentials, error) { return authority.issue(time.Hour), nil }}
		cache := aws.NewCredentialsCache(source, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 20 * time.Minute })
		for name, provider := range map[string]*bedrocktoken.Provider{
			"given":     newProvider(t, cache),
			"in config": newProvider(t, nil, bedrocktoken.WithConfig(aws.Config{Credentials: cache})),
		} {
			cache.Invalidate()
			before := source.calls.Load()
			for range 3 {
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				verified, err := authority.verify(token.Value)
				if err != nil || verified.AccessKeyID != authority.last.AccessKeyID {
					t.Errorf("%s: signed by %s, want %s; error %v", name, verified.AccessKeyID, authority.last.AccessKeyID, err)
				}
				if want := authority.last.Expires.Add(-20 * time.Minute); !token.Expires.Equal(want) {
					t.Errorf("%s: expires at %v, want %v", name, token.Expires, want)
				}
				cache.Invalidate()
			}
			if n := source.calls.Load() - before; n != 3 {
				t.Errorf("%s: %d retrievals, want 3", name, n)
			}
		}
	})
}

func TestRenewal(t *testing.T) {
	tests := map[string]struct {
		life  time.Duration
		early time.Duration // before their end, a nanosecond too early to renew the credentials
	}{
		"an hour":            {time.Hour, 5*time.Minute + time.Nanosecond},
		"12 hours":           {12 * time.Hour, 5*time.Minute + time.Nanosecond},
		"a quarter":          {15 * time.Minute, 75*time.Second + time.Nanosecond},
		"five minutes":       {5 * time.Minute, time.Minute + time.Nanosecond},
		"just over a minute": {time.Minute + 2*time.Nanosecond, time.Minute + time.Nanosecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				source := &source{retrieve: func(context.Context) (aws.Credentials, error) { return authority.issue(test.life), nil }}
				provider := newProvider(t, source)
				get := func(calls int32) {
					t.Helper()
					token, verified := authority.token(t, provider)
					if n := source.calls.Load(); n != calls || verified.AccessKeyID != authority.last.AccessKeyID {
						t.Fatalf("%d retrievals, want %d", n, calls)
					}
					if !token.Expires.Equal(authority.last.Expires) {
						t.Errorf("expires at %v, want %v", token.Expires, authority.last.Expires)
					}
				}
				get(1)
				end := authority.last.Expires
				time.Sleep(time.Until(end.Add(-test.early)))
				get(1)
				time.Sleep(time.Nanosecond)
				get(2)
				get(2)
			})
		})
	}
}

// While renewing fails the credentials are used to their last nanosecond; then
// the source's error is seen, and the first call after the source is back is
// served.
func TestRenewalFails(t *testing.T) {
	failures := map[string]func() (aws.Credentials, error){
		"error": func() (aws.Credentials, error) { return aws.Credentials{}, errOutage },
		"empty": func() (aws.Credentials, error) { return aws.Credentials{}, nil },
		"dead": func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now()}, nil
		},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				var out bool
				source := &source{retrieve: func(context.Context) (aws.Credentials, error) {
					if out {
						return failure()
					}
					return authority.issue(time.Hour), nil
				}}
				provider := newProvider(t, source)
				get := func() {
					t.Helper()
					token, _ := authority.token(t, provider)
					if want := authority.last.Expires; !token.Expires.Equal(want) {
						t.Fatalf("expires at %v, want %v", token.Expires, want)
					}
				}
				get()
				out = true
				end := authority.last.Expires
				for time.Until(end) > time.Second {
					get()
					time.Sleep(time.Second)
				}
				time.Sleep(time.Until(end.Add(-time.Nanosecond)))
				get()
				if n := source.calls.Load(); n < 4 || n > 1+5*6+1 {
					t.Errorf("%d retrievals: want the first, and one every 10 seconds of the last 5 minutes", n)
				}
				time.Sleep(time.Nanosecond)
				for range 2 {
					token, err := provider.Token(t.Context())
					if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
						t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
					}
					if name == "error" && !errors.Is(err, errOutage) {
						t.Errorf("error %v hides the source's", err)
					}
				}
				out = false
				get()
			})
		})
	}
}

// A source that comes back before the credentials end is asked again soon.
func TestRenewalRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		var out bool
		provider := newProvider(t, &source{retrieve: func(context.Context) (aws.Credentials, error) {
			if out {
				return aws.Credentials{}, errOutage
			}
			return authority.issue(time.Hour), nil
		}})
		signer := func() string {
			t.Helper()
			_, verified := authority.token(t, provider)
			return verified.AccessKeyID
		}
		first := signer()
		time.Sleep(56 * time.Minute)
		out = true
		if signer() != first {
			t.Error("not the first credentials")
		}
		out = false
		time.Sleep(10 * time.Second)
		if signer() == first {
			t.Error("still the first credentials")
		}
	})
}

// A renewal that hangs keeps callers waiting for a moment, now and then, for as
// long as they can be served; and it is given up, so that the source is asked
// again.
func TestRenewalHangs(t *testing.T) {
	for name, deaf := range map[string]bool{"heeds its context": false, "deaf to its context": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				var hangs atomic.Bool
				source := &source{retrieve: func(ctx context.Context) (aws.Credentials, error) {
					switch {
					case hangs.Load() && deaf:
						time.Sleep(2 * time.Minute)
						return aws.Credentials{}, errOutage
					case hangs.Load():
						<-ctx.Done()
						return aws.Credentials{}, ctx.Err()
					}
					return authority.issue(time.Hour), nil
				}}
				provider := newProvider(t, source)
				authority.token(t, provider)
				first := authority.last
				time.Sleep(56 * time.Minute)
				hangs.Store(true)
				start := time.Now()
				get := func(wait time.Duration) {
					t.Helper()
					asked := time.Now()
					if token, _ := authority.token(t, provider); !token.Expires.Equal(first.Expires) {
						t.Errorf("expires at %v, want %v", token.Expires, first.Expires)
					}
					if waited := time.Since(asked); waited != wait {
						t.Errorf("after %v: waited %v, want %v", asked.Sub(start), waited, wait)
					}
				}
				for time.Since(start) < time.Minute {
					get(3 * time.Second)
					get(0)
					time.Sleep(10*time.Second - time.Nanosecond)
					get(0)
					time.Sleep(time.Nanosecond)
				}
				if n := source.calls.Load(); n != 2 {
					t.Errorf("%d retrievals, want 2", n)
				}

				// A caller in a hurry waits for half of its time, and spares those
				// after it the wait.
				asked := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				token, err := provider.Token(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := authority.verify(token); err != nil {
					t.Error(err)
				}
				if waited := time.Since(asked); waited != 500*time.Millisecond {
					t.Errorf("waited %v, want 500ms", waited)
				}
				get(0)

				// The first renewal is over, the second hangs as well.
				time.Sleep(time.Until(start.Add(2*time.Minute + 10*time.Second)))
				get(3 * time.Second)
				if n := source.calls.Load(); n != 3 {
					t.Errorf("%d retrievals, want 3", n)
				}

				// The credentials end while a caller waits for the second.
				time.Sleep(time.Until(first.Expires.Add(-time.Second)))
				hangs.Store(false)
				if token, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
					t.Errorf("got %q and error %v, want ErrCredentials", token, err)
				}
				if waited := time.Since(start); waited != 4*time.Minute+10*time.Second {
					t.Errorf("the renewal ended after %v, want 4m10s", waited)
				}
				authority.token(t, provider)
			})
		})
	}
}

// A renewal that ends as its callers go on without it is not lost to them.
func TestRenewalEndsWithTheWait(t *testing.T) {
	for range 300 { // for each of the orders in which they may come
		synctest.Test(t, func(t *testing.T) {
			var authority authority
			provider := newProvider(t, &source{retrieve: func(context.Context) (aws.Credentials, error) {
				time.Sleep(3 * time.Second)
				return authority.issue(time.Hour), nil
			}})
			authority.token(t, provider)
			time.Sleep(55 * time.Minute)
			var callers sync.WaitGroup
			for range 8 {
				callers.Go(func() {
					if _, err := provider.Token(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			callers.Wait()
			time.Sleep(11 * time.Second)
			if token, _ := authority.token(t, provider); !token.Expires.Equal(authority.last.Expires) {
				t.Fatal("signed with the old credentials")
			}
		})
	}
}

// A source that is slow, but works, is waited for in the background.
func TestRenewalIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		source := &source{retrieve: func(context.Context) (aws.Credentials, error) {
			time.Sleep(20 * time.Second)
			return authority.issue(time.Hour), nil
		}}
		provider := newProvider(t, source)
		for range 3 {
			for until := time.Now().Add(54 * time.Minute); time.Now().Before(until); time.Sleep(time.Second) {
				if token, _ := authority.token(t, provider); time.Until(token.Expires) < 4*time.Minute {
					t.Fatalf("a token with %v left", time.Until(token.Expires))
				}
			}
		}
		if n := source.calls.Load(); n != 3 {
			t.Errorf("%d retrievals, want 3", n)
		}
	})
}

// A source that has nothing better than seconds is used, not hammered.
func TestSecondsLeft(t *testing.T) {
	for _, life := range []time.Duration{time.Nanosecond, time.Second, 9 * time.Second, 30 * time.Second, time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				creds := authority.issue(life)
				source := &source{retrieve: func(context.Context) (aws.Credentials, error) { return creds, nil }}
				provider := newProvider(t, source, bedrocktoken.WithExpiry(time.Hour))
				authority.token(t, provider)
				for time.Now().Before(creds.Expires) { // the second one at the same instant
					token, verified := authority.token(t, provider)
					if !token.Expires.Equal(creds.Expires) || verified.Expiry != time.Hour {
						t.Errorf("expires at %v, want %v; %v on the wire, want an hour", token.Expires, creds.Expires, verified.Expiry)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := int(source.calls.Load()); n > 1+int(life/(10*time.Second)) {
					t.Errorf("%d retrievals in %v", n, life)
				}
				if _, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) {
					t.Errorf("error is %v, want ErrCredentials", err)
				}
			})
		})
	}
}

func TestCancelled(t *testing.T) {
	hanging := func(release <-chan struct{}, authority *authority) *source {
		return &source{retrieve: func(context.Context) (aws.Credentials, error) { // deaf to its context
			<-release
			return authority.issue(time.Hour), nil
		}}
	}

	// The first caller, whose call started the retrieval, leaves; so does one
	// more; the rest are served by that same retrieval.
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
			time.Sleep(time.Hour)
			close(release)
			callers.Wait()
			if n := source.calls.Load(); n != 1 {
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
			source := &source{retrieve: func(context.Context) (aws.Credentials, error) { return authority.issue(time.Hour), nil }}
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
			if n := source.calls.Load(); n != 0 {
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

	// Both are ready: the credentials and the end of the caller's patience.
	t.Run("at the same time", func(t *testing.T) {
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			provider := newProvider(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				cancel()
				return new(authority).issue(time.Hour), nil
			}))
			if token, err := provider.Token(ctx); !errors.Is(err, context.Canceled) || token != "" {
				t.Fatalf("got %q and error %v, want Canceled", token, err)
			}
		}
	})
}

// An endingContext ends after the first look at it.
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

func TestBadInput(t *testing.T) {
	ctx := t.Context()
	good := newProvider(t, static(accessKeyID, secretKey, ""))
	var none context.Context
	tests := map[string]struct {
		call func() (string, error)
		want error
	}{
		"nil context":           {func() (string, error) { return bedrocktoken.ProvideToken(none) }, nil},
		"nil context for token": {func() (string, error) { return good.Token(none) }, nil},
		"zero Provider":         {func() (string, error) { return new(bedrocktoken.Provider).Token(ctx) }, bedrocktoken.ErrCredentials},
		"nil Provider":          {func() (string, error) { return (*bedrocktoken.Provider)(nil).Token(ctx) }, bedrocktoken.ErrCredentials},
		"empty config": {func() (string, error) {
			return bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(aws.Config{}))
		}, bedrocktoken.ErrRegion},
		"config without credentials": {func() (string, error) {
			return bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(aws.Config{Region: region}))
		}, bedrocktoken.ErrCredentials},
		"config with an empty cache": {func() (string, error) {
			return bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(aws.Config{Region: region, Credentials: aws.NewCredentialsCache(nil)}))
		}, bedrocktoken.ErrCredentials},
		"config and profile": {func() (string, error) {
			return bedrocktoken.ProvideToken(ctx, bedrocktoken.WithConfig(aws.Config{Region: region}), bedrocktoken.WithProfile("team"))
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			token, err := test.call()
			if err == nil || token != "" || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %q and error %v, want %v", token, err, test.want)
			}
			if name == "config and profile" && (!strings.Contains(err.Error(), "contradict") || !strings.Contains(err.Error(), `"team"`)) {
				t.Errorf("error %v does not say what is wrong", err)
			}
		})
	}
}

func TestPrinting(t *testing.T) {
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
				bedrocktoken.WithCredentialsProvider(source), bedrocktoken.WithConfig(aws.Config{Credentials: source}),
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

// The line of the doc comment works: the token is reused, and replaced a minute
// before it dies.
func TestTokenCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		p := newProvider(t, &source{retrieve: func(context.Context) (aws.Credentials, error) { return authority.issue(time.Hour), nil }})
		cache := bearer.NewTokenCache(p, func(o *bearer.TokenCacheOptions) { o.RefreshBeforeExpires = time.Minute })
		get := func() string {
			t.Helper()
			token, err := cache.RetrieveBearerToken(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := authority.verify(token.Value); err != nil {
				t.Error(err)
			}
			return token.Value
		}
		first := get()
		time.Sleep(59*time.Minute - time.Nanosecond)
		if get() != first {
			t.Error("the token was not reused")
		}
		time.Sleep(time.Nanosecond)
		get() // starts the refresh
		synctest.Wait()
		if get() == first {
			t.Error("the token was not replaced")
		}
	})
}

// Thirty days of a service with credentials that live for an hour, a token every
// few seconds, each verified at its moment.
func TestThirtyDays(t *testing.T) {
	for name, healthy := range map[string]bool{"healthy": true, "outages": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { thirtyDays(t, healthy) })
		})
	}
}

func thirtyDays(t *testing.T, healthy bool) {
	random := rand.New(rand.NewPCG(1, 2))
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(high-low)))
	}
	var authority authority
	var outage, outageEnd time.Time
	outages, failures := 0, 0
	source := &source{retrieve: func(context.Context) (aws.Credentials, error) {
		time.Sleep(between(20*time.Millisecond, 2*time.Second))
		now := time.Now()
		if !healthy && (random.IntN(10) == 0 || !now.Before(outage) && now.Before(outageEnd)) {
			failures++
			return aws.Credentials{}, errOutage
		}
		return authority.issue(time.Hour), nil
	}}
	provider := newProvider(t, source)
	tokens, refusals := 0, 0
	for end := time.Now().Add(30 * 24 * time.Hour); time.Now().Before(end); time.Sleep(between(time.Second, 15*time.Second)) {
		if time.Now().After(outageEnd) {
			outages++
			outage = time.Now().Add(between(10*time.Minute, 4*time.Hour))
			outageEnd = outage.Add(between(2*time.Minute, 12*time.Minute))
		}
		token, err := provider.RetrieveBearerToken(t.Context())
		if err != nil {
			refusals++
			if !errors.Is(err, errOutage) || !errors.Is(err, bedrocktoken.ErrCredentials) {
				t.Fatalf("not the source's error: %v", err)
			}
			if left := time.Until(authority.last.Expires); healthy || left > 0 {
				t.Fatalf("an error while the credentials live for another %v: %v", left, err)
			}
			continue
		}
		tokens++
		if _, err := authority.verify(token.Value); err != nil {
			t.Fatal(err)
		}
		if !token.Expires.Equal(authority.last.Expires) {
			t.Fatalf("expires at %v, want %v", token.Expires, authority.last.Expires)
		}
		if left := time.Until(token.Expires); healthy && left < time.Minute {
			t.Fatalf("a token with %v left", left)
		}
	}
	calls := int(source.calls.Load())
	t.Logf("%d tokens, %d errors, %d retrievals, %d of them failed", tokens, refusals, calls, failures)
	if healthy && (calls < 30*24 || calls > 30*24*60/55+1) {
		t.Errorf("%d retrievals in 30 days, want about one an hour", calls)
	}
	if !healthy {
		t.Logf("%d outages", outages)
		if failures < 100 || refusals == 0 {
			t.Errorf("%d failures and %d errors: the source was not out of order enough to show anything", failures, refusals)
		}
	}
}
