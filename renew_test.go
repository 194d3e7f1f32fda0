package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// Callers who come before there are credentials wait for one retrieval.
func TestFirstRetrievalIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var authority authority
		source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
			time.Sleep(time.Second)
			return authority.Issue(time.Hour), nil
		})
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
		if n := source.Calls(); n != 1 {
			t.Errorf("%d retrievals, want 1", n)
		}
	})
}

// The first call in the last twelfth of the credentials' life, which counts as 1 to
// 5 minutes, begins one renewal. Nobody waits for it.
func TestRenewalInBackground(t *testing.T) {
	tests := map[string]struct{ life, lead time.Duration }{
		"an hour":   {time.Hour, 15 * time.Minute},
		"12 hours":  {12 * time.Hour, time.Hour},
		"a quarter": {15 * time.Minute, 5 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.source.Set(func(context.Context) (aws.Credentials, error) {
					time.Sleep(2 * time.Second)
					return b.Issue(test.life), nil
				})
				b.get(0, 2*time.Second)
				sleepUntil(b.Newest().Expires.Add(-test.lead - time.Nanosecond))
				b.get(0, 0)
				b.retrievals(1)
				time.Sleep(time.Nanosecond)
				b.get(0, 0)
				b.get(0, 0)
				b.retrievals(2)
				time.Sleep(2*time.Second - time.Nanosecond)
				b.get(0, 0)
				time.Sleep(2 * time.Nanosecond)
				b.get(1, 0)
				b.retrievals(2)
			})
		})
	}
}

// In the last minute of the credentials' life callers wait for the renewal, but no
// longer than for a second from its start.
func TestRenewalWaitsInLastMinute(t *testing.T) {
	for name, life := range map[string]time.Duration{"an hour": time.Hour, "two minutes": 2 * time.Minute, "less": 50 * time.Second} {
		t.Run(name, func(t *testing.T) {
			// inLastMinute calls test when the credentials are in their last minute, or
			// after the pause if they never had more, and renewals take some time.
			inLastMinute := func(t *testing.T, takes time.Duration, test func(b *bench)) {
				onBench(t, func(b *bench) {
					b.source.Set(func(context.Context) (aws.Credentials, error) { return b.Issue(life), nil })
					b.get(0, 0)
					b.source.Set(func(context.Context) (aws.Credentials, error) {
						time.Sleep(takes)
						return b.Issue(time.Hour), nil
					})
					time.Sleep(max(life-time.Minute, 10*time.Second)) // the pause after a retrieval of less than a minute
					test(b)
				})
			}
			t.Run("quick", func(t *testing.T) {
				inLastMinute(t, 400*time.Millisecond, func(b *bench) {
					time.Sleep(700 * time.Millisecond) // the wait ends in the next second, for which the token is signed
					b.get(1, 400*time.Millisecond)
				})
			})
			t.Run("slow", func(t *testing.T) {
				inLastMinute(t, 3*time.Second, func(b *bench) {
					var late sync.WaitGroup
					late.Go(func() {
						time.Sleep(700 * time.Millisecond)
						b.get(0, 300*time.Millisecond)
					})
					b.get(0, time.Second)
					late.Wait()
					b.get(0, 0)
					time.Sleep(1999 * time.Millisecond)
					b.get(0, 0)
					time.Sleep(2 * time.Millisecond)
					b.get(1, 0)
					b.retrievals(2)
				})
			})
			t.Run("deadline", func(t *testing.T) {
				inLastMinute(t, 3*time.Second, func(b *bench) {
					asked := time.Now()
					ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
					defer cancel()
					token, err := b.provider.Token(ctx)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := b.verify(token); err != nil {
						t.Error(err)
					}
					if waited := time.Since(asked); waited != 250*time.Millisecond {
						t.Errorf("waited for %v, want 250ms", waited)
					}
				})
			})
			t.Run("cancelled", func(t *testing.T) {
				inLastMinute(t, 3*time.Second, func(b *bench) {
					asked := time.Now()
					ctx, cancel := context.WithCancel(b.Context())
					time.AfterFunc(100*time.Millisecond, cancel)
					if _, err := b.provider.Token(ctx); !errors.Is(err, context.Canceled) || time.Since(asked) != 100*time.Millisecond {
						t.Errorf("error %v after %v", err, time.Since(asked))
					}
				})
			})
			t.Run("expires meanwhile", func(t *testing.T) {
				inLastMinute(t, 3*time.Second, func(b *bench) {
					sleepUntil(b.Newest().Expires.Add(-500 * time.Millisecond))
					b.get(1, 3*time.Second)
				})
			})
			t.Run("fails", func(t *testing.T) {
				inLastMinute(t, 0, func(b *bench) {
					b.source.Set(func(context.Context) (aws.Credentials, error) {
						time.Sleep(300 * time.Millisecond)
						return aws.Credentials{}, errRefused
					})
					b.get(0, 300*time.Millisecond)
					b.get(0, 0)
					b.retrievals(2)
					time.Sleep(10*time.Second - time.Nanosecond)
					b.get(0, 0)
					time.Sleep(time.Nanosecond)
					b.get(0, 300*time.Millisecond)
					b.retrievals(3)
				})
			})
		})
	}
	t.Run("began before it", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			sleepUntil(b.Newest().Expires.Add(-time.Minute - 10*time.Second))
			b.hang(false)
			b.get(0, 0)
			for time.Until(b.Nth(0).Expires) > 11*time.Second {
				time.Sleep(time.Second)
				b.get(0, 0)
			}
			b.retrievals(2)
		})
	})
	t.Run("began a nanosecond before it", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			b.source.Set(func(context.Context) (aws.Credentials, error) {
				time.Sleep(900 * time.Millisecond)
				return b.Issue(time.Hour), nil
			})
			sleepUntil(b.Newest().Expires.Add(-time.Minute - time.Nanosecond))
			b.get(0, 0)
			time.Sleep(time.Nanosecond)
			b.get(1, 900*time.Millisecond-time.Nanosecond)
		})
	})
}

// A retrieval times out a minute after its start, whatever the source does, and is
// tried again 10 seconds later. Held credentials are used meanwhile.
func TestRenewalTimesOut(t *testing.T) {
	kinds := map[string]func(b *bench){
		"heeds its context":   func(b *bench) { b.hang(true) },
		"ignores its context": func(b *bench) { b.hang(false) },
		"answers when too late": func(b *bench) {
			b.source.Set(func(context.Context) (aws.Credentials, error) {
				time.Sleep(time.Minute + time.Second)
				return aws.Credentials{AccessKeyID: "TOOLATE", SecretAccessKey: "x"}, nil
			})
		},
	}
	for name, hang := range kinds {
		t.Run("nothing held, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				hang(b)
				for i := range 3 {
					for _, wait := range []time.Duration{time.Minute, 0} {
						err := b.fail(wait)
						if !strings.Contains(err.Error(), "did not answer") || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
							t.Errorf("error is %v", err)
						}
						b.retrievals(i + 1)
					}
					time.Sleep(10*time.Second - time.Nanosecond)
					b.fail(0)
					b.retrievals(i + 1)
					time.Sleep(time.Nanosecond)
				}
				b.source.Set(b.hourLong)
				b.get(0, 0)
				b.retrievals(4)
			})
		})
		t.Run("credentials held, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.get(0, 0)
				time.Sleep(56 * time.Minute)
				hang(b)
				start := time.Now()
				for time.Since(start) < 75*time.Second { // a minute, and a quarter of it
					b.get(0, 0)
					b.retrievals(2)
					time.Sleep(time.Second)
				}
				b.get(0, 0)
				b.retrievals(3)
				b.source.Set(b.hourLong)
				time.Sleep(time.Minute + 105*time.Second/4) // a quarter of what is left
				b.get(0, 0)
				b.retrievals(4)
				b.get(1, 0)
			})
		})
		// Callers who each wait for 2 seconds at most get held credentials.
		t.Run("impatient callers, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.get(0, 0)
				time.Sleep(55 * time.Minute)
				hang(b)
				for time.Until(b.Newest().Expires) > time.Second {
					ctx, cancel := context.WithTimeout(b.Context(), 2*time.Second)
					if _, err := b.provider.Token(ctx); err != nil {
						t.Errorf("%v left: %v", time.Until(b.Newest().Expires), err)
					}
					cancel()
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// The context of a retrieval belongs to no caller: it has no caller's values, and is
// done when the retrieval has ended or timed out.
func TestRetrievalHasItsOwnContext(t *testing.T) {
	t.Run("times out", func(t *testing.T) {
		onBench(t, func(b *bench) {
			type key struct{}
			start := time.Now()
			ended := make(chan time.Duration, 1)
			b.source.Set(func(ctx context.Context) (aws.Credentials, error) {
				if ctx.Value(key{}) != nil {
					t.Error("the context has a caller's value")
				}
				<-ctx.Done()
				ended <- time.Since(start)
				return aws.Credentials{}, ctx.Err()
			})
			ctx, cancel := context.WithTimeout(context.WithValue(b.Context(), key{}, "x"), time.Second)
			defer cancel()
			if _, err := b.provider.Token(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bedrocktoken.ErrCredentials) {
				t.Errorf("error is %v", err)
			}
			if after := <-ended; after != time.Minute {
				t.Errorf("the context was done after %v, want a minute", after)
			}
		})
	})
	t.Run("succeeds", func(t *testing.T) {
		onBench(t, func(b *bench) {
			var kept context.Context
			b.source.Set(func(ctx context.Context) (aws.Credentials, error) {
				kept = ctx
				return b.Issue(time.Hour), nil
			})
			b.get(0, 0)
			synctest.Wait()
			if kept.Err() == nil {
				t.Error("the context is not done after the retrieval")
			}
		})
	})
}

// While renewals fail, the held credentials are used to their last nanosecond. After
// that, calls return the source's error until the source recovers.
func TestRenewalKeepsHeldOnError(t *testing.T) {
	failures := map[string]func() (aws.Credentials, error){
		"error": func() (aws.Credentials, error) { return aws.Credentials{}, errRefused },
		"empty": func() (aws.Credentials, error) { return aws.Credentials{}, nil },
		"malformed": func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey + "\n"}, nil
		},
		"expired": func() (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now()}, nil
		},
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.get(0, 0)
				b.source.Set(func(context.Context) (aws.Credentials, error) { return failure() })
				sleepUntil(b.Newest().Expires.Add(-5 * time.Minute))
				for range 4 {
					for range 10 {
						b.get(0, 0)
						time.Sleep(time.Second)
					}
				}
				b.retrievals(1 + 4) // every 10 seconds at first
				for b.Newest().Expires.After(time.Now()) {
					b.get(0, 0)
					time.Sleep(time.Second)
				}
				n := b.source.Calls()
				if n < 10 || n > 25 {
					t.Errorf("%d retrievals in 5 minutes of trouble, want about 15", n)
				}
				for range 2 {
					if err := b.fail(0); name == "error" && !errors.Is(err, errRefused) {
						t.Errorf("error %v hides the source's", err)
					}
					n++
					b.retrievals(n)
				}
				b.source.Set(b.hourLong)
				b.get(1, 0)
			})
		})
	}
}

// Credentials that expire sooner than the held ones do not replace them, and the
// renewal is tried again after 10 seconds.
func TestRenewalKeepsLongerLived(t *testing.T) {
	const forever = 0
	tests := map[string]struct {
		held, fresh time.Duration // life that is left when the fresh ones come
		taken       bool
	}{
		"2 seconds":                        {5 * time.Minute, 2 * time.Second, false},
		"a nanosecond less":                {5 * time.Minute, 5*time.Minute - time.Nanosecond, false},
		"as long":                          {5 * time.Minute, 5 * time.Minute, true},
		"a nanosecond more":                {5 * time.Minute, 5*time.Minute + time.Nanosecond, true},
		"for ever":                         {5 * time.Minute, forever, true},
		"for ever after for ever":          {forever, forever, true},
		"an hour after for ever":           {forever, time.Hour, true},
		"more than a minute after forever": {forever, time.Minute + time.Nanosecond, true},
		"a minute after for ever":          {forever, time.Minute, false},
		"2 seconds after for ever":         {forever, 2 * time.Second, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				issue := func(life time.Duration) (aws.Credentials, error) {
					creds := b.Issue(cmp.Or(life, 1000*time.Hour))
					creds.CanExpire = life != forever
					return creds, nil
				}
				signedBy := func(nth int) {
					t.Helper()
					if _, verified := b.token(b.T, b.provider); verified.AccessKeyID != b.Nth(nth).AccessKeyID {
						t.Errorf("signed by %s, want %s", verified.AccessKeyID, b.Nth(nth).AccessKeyID)
					}
				}
				b.source.Set(func(context.Context) (aws.Credentials, error) {
					if test.held == forever {
						return issue(forever)
					}
					return issue(test.held + 55*time.Minute)
				})
				signedBy(0)
				b.source.Set(func(context.Context) (aws.Credentials, error) { return issue(test.fresh) })
				time.Sleep(55 * time.Minute)
				signedBy(0)
				b.retrievals(2)
				if test.taken {
					signedBy(1)
					b.retrievals(2)
					return
				}
				time.Sleep(10*time.Second - time.Nanosecond)
				signedBy(0)
				b.retrievals(2)
				time.Sleep(time.Nanosecond)
				signedBy(0)
				b.retrievals(3)
				if test.held == forever {
					return
				}
				// When the held ones have expired, any others are used.
				sleepUntil(b.Nth(0).Expires)
				before := b.Issued()
				signedBy(before)
			})
		})
	}

	// A source with a cache of its own returns the same credentials again.
	t.Run("the same", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			b.source.Set(func(context.Context) (aws.Credentials, error) {
				same := b.Newest()
				same.Expires = same.Expires.In(time.FixedZone("", 19800)) // as if parsed again
				return same, nil
			})
			sleepUntil(b.Newest().Expires.Add(-5 * time.Minute))
			b.get(0, 0)
			b.retrievals(2)
			b.Issue(time.Hour)
			time.Sleep(10*time.Second - time.Nanosecond)
			b.get(0, 0)
			b.retrievals(2)
			time.Sleep(time.Nanosecond)
			b.get(0, 0)
			b.retrievals(3)
			b.get(1, 0)
		})
	})
}

// Credentials without an expiry are retrieved again every 5 minutes in the
// background, but not those of a credential_process.
func TestRenewalRechecksEndless(t *testing.T) {
	issue := func(b *bench, source string) {
		b.source.Set(func(context.Context) (aws.Credentials, error) {
			creds := b.Issue(1000 * time.Hour)
			creds.CanExpire, creds.Expires, creds.Source = false, time.Time{}, source
			return creds, nil
		})
	}
	get := func(b *bench, nth int) {
		b.Helper()
		asked := time.Now()
		if _, verified := b.token(b.T, b.provider); verified.AccessKeyID != b.Nth(nth).AccessKeyID || time.Since(asked) != 0 {
			b.Errorf("signed by %s after %v, want %s at once", verified.AccessKeyID, time.Since(asked), b.Nth(nth).AccessKeyID)
		}
	}
	t.Run("every 5 minutes", func(t *testing.T) {
		onBench(t, func(b *bench) {
			issue(b, "")
			get(b, 0)
			for n := range 3 {
				time.Sleep(5*time.Minute - time.Nanosecond)
				get(b, n)
				b.retrievals(n + 1)
				time.Sleep(time.Nanosecond)
				get(b, n)
				b.retrievals(n + 2)
				get(b, n+1)
			}
		})
	})
	t.Run("fails", func(t *testing.T) {
		onBench(t, func(b *bench) {
			issue(b, "")
			get(b, 0)
			b.source.Set(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errRefused })
			time.Sleep(5 * time.Minute)
			get(b, 0)
			b.retrievals(2)
			issue(b, "")
			time.Sleep(10 * time.Second)
			get(b, 0)
			b.retrievals(3)
			get(b, 1)
		})
	})
	t.Run("hangs", func(t *testing.T) {
		onBench(t, func(b *bench) {
			issue(b, "")
			get(b, 0)
			b.hang(false)
			time.Sleep(5 * time.Minute)
			for range 30 * 60 {
				get(b, 0)
				time.Sleep(time.Second)
			}
			// Each takes a minute, and the pauses grow with the trouble.
			if n := b.source.Calls(); n < 9 || n > 12 {
				t.Errorf("%d retrievals in half an hour of trouble, want about 10", n)
			}
		})
	})
	t.Run("credential_process", func(t *testing.T) {
		onBench(t, func(b *bench) {
			issue(b, processcreds.ProviderName)
			get(b, 0)
			time.Sleep(30 * 24 * time.Hour)
			get(b, 0)
			b.retrievals(1)
		})
	})
	t.Run("credential_process with an expiration", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.source.Set(func(context.Context) (aws.Credentials, error) {
				creds := b.Issue(time.Hour)
				creds.Source = processcreds.ProviderName
				return creds, nil
			})
			b.get(0, 0)
			time.Sleep(55 * time.Minute)
			b.get(0, 0)
			b.retrievals(2)
			b.get(1, 0)
		})
	})
}

// Static credentials with an expiry are used until then, and are an error after it.
func TestStaticCredentialsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, CanExpire: true, Expires: time.Now().Add(time.Hour)}
		provider := newProvider(t, credentials.StaticCredentialsProvider{Value: creds})
		for range 3 {
			token, err := provider.RetrieveBearerToken(t.Context())
			if err != nil || !token.Expires.Equal(creds.Expires) {
				t.Errorf("expires at %v, want %v; error %v", token.Expires, creds.Expires, err)
			}
			time.Sleep(20*time.Minute - time.Nanosecond)
		}
		time.Sleep(3 * time.Nanosecond)
		if _, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "expired at") {
			t.Errorf("error is %v", err)
		}
	})
}

// Credentials that live for less than a minute are used until they expire, and their
// source is asked once in 10 seconds.
func TestRenewalOfShortLivedPauses(t *testing.T) {
	for _, life := range []time.Duration{time.Nanosecond, time.Second, 9 * time.Second, 30 * time.Second, time.Minute} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var authority authority
				creds := authority.Issue(life)
				source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return creds, nil })
				provider := newProvider(t, source, bedrocktoken.WithExpiry(time.Hour))
				authority.token(t, provider)
				for time.Now().Before(creds.Expires) { // the second one at the same instant
					token, verified := authority.token(t, provider)
					if !token.Expires.Equal(creds.Expires) || verified.Expiry != time.Hour {
						t.Errorf("expires at %v, want %v; %v on the wire, want an hour", token.Expires, creds.Expires, verified.Expiry)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := source.Calls(); n > 1+int(life/(10*time.Second)) {
					t.Errorf("%d retrievals in %v", n, life)
				}
				if _, err := provider.Token(t.Context()); !errors.Is(err, bedrocktoken.ErrCredentials) {
					t.Errorf("error is %v, want ErrCredentials", err)
				}
			})
		})
	}
}
