package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/bedrocktoken/bedrocktoken"
)

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

// A bench is a Provider of credentials that live for an hour, unless retrieve is
// changed, and tells who signed its tokens and how long the call took.
type bench struct {
	*testing.T
	authority
	source   *source
	provider *bedrocktoken.Provider
	over     chan struct{} // closed when the test is
}

// onBench calls test in a bubble.
func onBench(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, over: make(chan struct{})}
		defer time.Sleep(time.Hour) // retrievals end with it
		defer close(b.over)
		b.source = &source{retrieve: func(context.Context) (aws.Credentials, error) { return b.issue(time.Hour), nil }}
		b.provider = newProvider(t, b.source)
		test(b)
	})
}

// get wants a token signed with the nth credentials issued, counted from 0, after
// a wait.
func (b *bench) get(nth int, wait time.Duration) {
	b.Helper()
	asked := time.Now()
	token, verified := b.token(b.T, b.provider)
	if want := b.nth(nth); verified.AccessKeyID != id(nth) || !token.Expires.Equal(want.Expires) {
		b.Errorf("signed by %s until %v, want %s until %v", verified.AccessKeyID, token.Expires, id(nth), want.Expires)
	}
	if waited := time.Since(asked); waited != wait {
		b.Errorf("waited for %v, want %v", waited, wait)
	}
	if late := time.Since(verified.SigningTime); late >= time.Second {
		b.Errorf("signed %v ago", late)
	}
}

// fail wants an error after a wait, and returns it.
func (b *bench) fail(wait time.Duration) error {
	b.Helper()
	asked := time.Now()
	token, err := b.provider.Token(b.Context())
	if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
		b.Fatalf("got %q and error %v, want ErrCredentials", token, err)
	}
	if waited := time.Since(asked); waited != wait {
		b.Errorf("waited for %v, want %v", waited, wait)
	}
	return err
}

// retrievals wants so many to have begun.
func (b *bench) retrievals(want int) {
	b.Helper()
	synctest.Wait()
	if n := int(b.source.calls.Load()); n != want {
		b.Errorf("%d retrievals, want %d", n, want)
	}
}

// hang makes the source take no notice of its context, or no other notice than
// that it ends, until the test is over.
func (b *bench) hang(heedsContext bool) {
	b.source.set(func(ctx context.Context) (aws.Credentials, error) {
		if !heedsContext {
			ctx = context.Background()
		}
		select {
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		case <-b.over:
			return aws.Credentials{}, errOutage
		}
	})
}

func sleepUntil(moment time.Time) { time.Sleep(time.Until(moment)) }

// The first call that finds it time sets off one retrieval in the background.
func TestRenewal(t *testing.T) {
	tests := map[string]struct{ life, lead time.Duration }{
		"an hour":          {time.Hour, 5 * time.Minute},
		"12 hours":         {12 * time.Hour, 5 * time.Minute},
		"a quarter":        {15 * time.Minute, 75 * time.Second},
		"thirteen minutes": {13 * time.Minute, 65 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.source.set(func(context.Context) (aws.Credentials, error) {
					time.Sleep(2 * time.Second)
					return b.issue(test.life), nil
				})
				b.get(0, 2*time.Second)
				sleepUntil(b.newest().Expires.Add(-test.lead - time.Nanosecond))
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

// In the last minute callers wait for a retrieval, for a second from its start.
func TestLastMinute(t *testing.T) {
	for name, life := range map[string]time.Duration{"an hour": time.Hour, "two minutes": 2 * time.Minute, "less": 50 * time.Second} {
		t.Run(name, func(t *testing.T) {
			// bench returns one whose credentials are in their last minute.
			inLastMinute := func(t *testing.T, takes time.Duration, test func(b *bench)) {
				onBench(t, func(b *bench) {
					b.source.set(func(context.Context) (aws.Credentials, error) { return b.issue(life), nil })
					b.get(0, 0)
					b.source.set(func(context.Context) (aws.Credentials, error) {
						time.Sleep(takes)
						return b.issue(time.Hour), nil
					})
					time.Sleep(max(life-time.Minute, 10*time.Second)) // as long as after any retrieval of less
					test(b)
				})
			}
			t.Run("quick", func(t *testing.T) {
				inLastMinute(t, 400*time.Millisecond, func(b *bench) {
					time.Sleep(700 * time.Millisecond) // so that the wait goes into the next second
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
			t.Run("in a hurry", func(t *testing.T) {
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
					sleepUntil(b.newest().Expires.Add(-500 * time.Millisecond))
					b.get(1, 3*time.Second)
				})
			})
			t.Run("fails", func(t *testing.T) {
				inLastMinute(t, 0, func(b *bench) {
					b.source.set(func(context.Context) (aws.Credentials, error) {
						time.Sleep(300 * time.Millisecond)
						return aws.Credentials{}, errOutage
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
	t.Run("begun before", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			sleepUntil(b.newest().Expires.Add(-time.Minute - 10*time.Second))
			b.hang(false)
			b.get(0, 0)
			for time.Until(b.nth(0).Expires) > 11*time.Second {
				time.Sleep(time.Second)
				b.get(0, 0)
			}
			b.retrievals(2)
		})
	})
	t.Run("begins with more than a minute left", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			b.source.set(func(context.Context) (aws.Credentials, error) {
				time.Sleep(900 * time.Millisecond)
				return b.issue(time.Hour), nil
			})
			sleepUntil(b.newest().Expires.Add(-time.Minute - time.Nanosecond))
			b.get(0, 0)
			time.Sleep(time.Nanosecond)
			b.get(1, 900*time.Millisecond-time.Nanosecond)
		})
	})
}

// A retrieval is given up a minute after its start, whatever the source does, and
// the source asked again 10 seconds later.
func TestGivenUp(t *testing.T) {
	kinds := map[string]func(b *bench){
		"heeds its context":   func(b *bench) { b.hang(true) },
		"deaf to its context": func(b *bench) { b.hang(false) },
		"answers when too late": func(b *bench) {
			b.source.set(func(context.Context) (aws.Credentials, error) {
				time.Sleep(time.Minute + time.Second)
				return aws.Credentials{AccessKeyID: "TOOLATE", SecretAccessKey: "x"}, nil
			})
		},
	}
	for name, hang := range kinds {
		t.Run("nothing held, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				retrieve := b.source.get()
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
				b.source.set(retrieve)
				b.get(0, 0)
				b.retrievals(4)
			})
		})
		t.Run("credentials held, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				retrieve := b.source.get()
				b.get(0, 0)
				time.Sleep(56 * time.Minute)
				hang(b)
				start := time.Now()
				for time.Since(start) < 70*time.Second {
					b.get(0, 0)
					b.retrievals(2)
					time.Sleep(time.Second)
				}
				b.get(0, 0)
				b.retrievals(3)
				b.source.set(retrieve)
				time.Sleep(70 * time.Second)
				b.get(0, 0)
				b.retrievals(4)
				b.get(1, 0)
			})
		})
		// Callers who each leave after 2 seconds are served all the same.
		t.Run("impatient callers, "+name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.get(0, 0)
				time.Sleep(55 * time.Minute)
				hang(b)
				for time.Until(b.newest().Expires) > time.Second {
					ctx, cancel := context.WithTimeout(b.Context(), 2*time.Second)
					if _, err := b.provider.Token(ctx); err != nil {
						t.Errorf("%v left: %v", time.Until(b.newest().Expires), err)
					}
					cancel()
					time.Sleep(time.Second)
				}
			})
		})
	}

	// What else a source may do to its goroutine is an error like others.
	for name, end := range map[string]func(){
		"panicked: no map":    func() { panic("no map") },
		"ended its goroutine": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				retrieve := b.source.get()
				b.source.set(func(context.Context) (aws.Credentials, error) {
					end()
					return aws.Credentials{}, nil
				})
				if err := b.fail(0); !strings.Contains(err.Error(), name) {
					t.Errorf("error is %v", err)
				}
				b.source.set(retrieve)
				b.get(0, 0)
			})
		})
	}

	// The source can tell that nobody waits any longer.
	t.Run("context", func(t *testing.T) {
		onBench(t, func(b *bench) {
			type key struct{}
			start := time.Now()
			ended := make(chan time.Duration, 1)
			b.source.set(func(ctx context.Context) (aws.Credentials, error) {
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
				t.Errorf("its context ended after %v, want a minute", after)
			}
		})
	})
	t.Run("context after success", func(t *testing.T) {
		onBench(t, func(b *bench) {
			var kept context.Context
			b.source.set(func(ctx context.Context) (aws.Credentials, error) {
				kept = ctx
				return b.issue(time.Hour), nil
			})
			b.get(0, 0)
			synctest.Wait()
			if kept.Err() == nil {
				t.Error("its context goes on after the retrieval")
			}
		})
	})
}

// While renewing fails the credentials are used to their last nanosecond; then
// the source's error is seen, and the first call after the source is back is
// served.
func TestRenewalFails(t *testing.T) {
	failures := map[string]func() (aws.Credentials, error){
		"error": func() (aws.Credentials, error) { return aws.Credentials{}, errOutage },
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
				retrieve := b.source.get()
				b.get(0, 0)
				b.source.set(func(context.Context) (aws.Credentials, error) { return failure() })
				sleepUntil(b.newest().Expires.Add(-5 * time.Minute))
				for range 29 {
					for range 10 {
						b.get(0, 0)
						time.Sleep(time.Second)
					}
				}
				b.retrievals(1 + 29)
				sleepUntil(b.newest().Expires.Add(-time.Nanosecond))
				b.get(0, 0)
				b.retrievals(1 + 30)
				time.Sleep(time.Nanosecond)
				for n := range 2 {
					if err := b.fail(0); name == "error" && !errors.Is(err, errOutage) {
						t.Errorf("error %v hides the source's", err)
					}
					b.retrievals(1 + 30 + n + 1)
				}
				b.source.set(retrieve)
				b.get(1, 0)
			})
		})
	}
}

// Worse credentials are not taken while better ones are held, and the source is
// asked again after a pause.
func TestBetterOrWorse(t *testing.T) {
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
					creds := b.issue(cmp.Or(life, 1000*time.Hour))
					creds.CanExpire = life != forever
					return creds, nil
				}
				signedBy := func(nth int) {
					t.Helper()
					if _, verified := b.token(b.T, b.provider); verified.AccessKeyID != id(nth) {
						t.Errorf("signed by %s, want %s", verified.AccessKeyID, id(nth))
					}
				}
				b.source.set(func(context.Context) (aws.Credentials, error) {
					if test.held == forever {
						return issue(forever)
					}
					return issue(test.held + 55*time.Minute)
				})
				signedBy(0)
				b.source.set(func(context.Context) (aws.Credentials, error) { return issue(test.fresh) })
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
				// Once the held ones have expired, anything will do.
				sleepUntil(b.nth(0).Expires)
				before := len(b.issued)
				signedBy(before)
			})
		})
	}

	// A source with a cache of its own returns what it has until it has others.
	t.Run("the same", func(t *testing.T) {
		onBench(t, func(b *bench) {
			b.get(0, 0)
			b.source.set(func(context.Context) (aws.Credentials, error) {
				same := b.newest()
				same.Expires = same.Expires.In(time.FixedZone("", 19800)) // parsed anew
				return same, nil
			})
			sleepUntil(b.newest().Expires.Add(-5 * time.Minute))
			b.get(0, 0)
			b.retrievals(2)
			b.issue(time.Hour)
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

// Credentials that do not expire are looked up again every 5 minutes, and nobody
// waits for it.
func TestEndless(t *testing.T) {
	issue := func(b *bench, source string) {
		b.source.set(func(context.Context) (aws.Credentials, error) {
			creds := b.issue(1000 * time.Hour)
			creds.CanExpire, creds.Source = false, source
			return creds, nil
		})
	}
	get := func(b *bench, nth int) {
		b.Helper()
		asked := time.Now()
		if _, verified := b.token(b.T, b.provider); verified.AccessKeyID != id(nth) || time.Since(asked) != 0 {
			b.Errorf("signed by %s after %v, want %s at once", verified.AccessKeyID, time.Since(asked), id(nth))
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
			b.source.set(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errOutage })
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
			b.retrievals(1 + 30*60/70 + 1)
		})
	})
	// It may ask a person.
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
			b.source.set(func(context.Context) (aws.Credentials, error) {
				creds := b.issue(time.Hour)
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

// Static credentials are not looked up again, which would be to no end, but they
// expire when they say so.
func TestStatic(t *testing.T) {
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

// A model is the promises in their shortest form, and a source that puts them to
// the test. What it does and what calls see is compared with what the model holds.
type model struct {
	*testing.T
	authority
	random *rand.Rand

	mu       sync.Mutex
	held     aws.Credentials
	began    []time.Time // of each retrieval
	underWay bool
	pause    time.Time // no retrieval begins before
	over     chan struct{}
}

func (m *model) holds(now time.Time) bool {
	return m.held.HasKeys() && (!m.held.CanExpire || now.Before(m.held.Expires))
}

// between returns a time after which no caller comes: they come at whole
// microseconds.
func (m *model) between(low, high time.Duration) time.Duration {
	return (low + time.Duration(m.random.Int64N(int64(high-low)))).Truncate(time.Microsecond) + 1 + time.Duration(m.random.IntN(999))
}

func (m *model) Retrieve(ctx context.Context) (aws.Credentials, error) {
	m.mu.Lock()
	start := time.Now()
	if m.underWay {
		m.Errorf("two retrievals at a time")
	}
	if start.Before(m.pause) {
		m.Errorf("a retrieval %v before the pause is over", m.pause.Sub(start))
	}
	m.began, m.underWay = append(m.began, start), true
	kind := m.random.IntN(10)
	takes := m.between(0, 3*time.Second)
	life := m.between(time.Second, 2*time.Hour)
	switch kind {
	case 0, 1:
		takes = m.between(3*time.Second, 55*time.Second)
	case 2, 3:
		takes = m.between(65*time.Second, 3*time.Minute)
	case 4:
		takes = 1000 * time.Hour
	}
	creds, err := aws.Credentials{}, error(nil)
	switch m.random.IntN(8) {
	case 0, 1:
		err = errOutage
	case 2:
		life = m.between(time.Second, 90*time.Second)
	case 3:
		creds = m.held // which may have expired
	case 4:
		life = 0
	}
	m.mu.Unlock()

	time.AfterFunc(time.Minute, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.underWay && m.began[len(m.began)-1].Equal(start) {
			m.underWay, m.pause = false, time.Now().Add(10*time.Second)
			if m.held.CanExpire && m.holds(time.Now()) && m.held.Expires.Before(m.pause) {
				m.pause = m.held.Expires
			}
		}
	})
	var gone <-chan struct{}
	if kind == 3 {
		gone = ctx.Done() // the others are deaf to it
	}
	select {
	case <-time.After(takes):
	case <-gone:
		return aws.Credentials{}, ctx.Err()
	case <-m.over:
		return aws.Credentials{}, errOutage
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if err == nil && !creds.HasKeys() {
		creds = m.issue(cmp.Or(life, 1000*time.Hour))
		creds.CanExpire = life != 0
	}
	if now.Sub(start) >= time.Minute {
		return creds, err // too late
	}
	m.underWay = false
	expired := creds.CanExpire && !now.Before(creds.Expires)
	worse := m.holds(now) && creds.CanExpire && (creds == m.held ||
		m.held.CanExpire && creds.Expires.Before(m.held.Expires) ||
		!m.held.CanExpire && creds.Expires.Sub(now) <= time.Minute)
	fruitless := err != nil || expired || worse
	if !fruitless {
		m.held = creds
		fruitless = creds.CanExpire && creds.Expires.Sub(now) <= time.Minute
	}
	if fruitless && m.holds(now) {
		m.pause = now.Add(10 * time.Second)
		if m.held.CanExpire && m.held.Expires.Before(m.pause) {
			m.pause = m.held.Expires
		}
	}
	return creds, err
}

// call makes one call and judges it.
func (m *model) call(provider *bedrocktoken.Provider, patience time.Duration) {
	ctx := m.Context()
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	m.mu.Lock()
	start, held, holds, retrievals, pause := time.Now(), m.held, m.holds(time.Now()), len(m.began), m.pause
	idle := !m.underWay
	m.mu.Unlock()
	token, err := provider.RetrieveBearerToken(ctx)
	end := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	waited := end.Sub(start)
	lastMinute := holds && held.CanExpire && held.Expires.Sub(start) <= time.Minute

	if err == nil {
		verified, err := m.verify(token.Value)
		if err != nil {
			m.Errorf("a token that does not work: %v", err)
		}
		if id := verified.AccessKeyID; id != held.AccessKeyID && id != m.held.AccessKeyID {
			m.Errorf("signed by %s, want %s or %s", id, held.AccessKeyID, m.held.AccessKeyID)
		}
	}
	switch {
	case patience > 0 && waited > patience:
		m.Errorf("waited for %v with %v of patience", waited, patience)
	case holds && waited == 0 && err != nil:
		m.Errorf("refused while credentials are held: %v", err)
	case holds && !lastMinute && waited > 0:
		m.Errorf("waited for %v with %v left", waited, held.Expires.Sub(start))
	case lastMinute && waited > 0 && end.Before(held.Expires) && (err != nil || end.After(m.began[len(m.began)-1].Add(time.Second))):
		m.Errorf("waited for %v in the last minute, error %v", waited, err)
	case err != nil && errors.Is(err, context.DeadlineExceeded) && (patience == 0 || waited != patience):
		m.Errorf("the caller's deadline is said to have passed after %v: %v", waited, err)
	case err != nil && waited < patience && m.holds(end):
		m.Errorf("an error while credentials are held: %v", err)
	case waited > time.Minute:
		m.Errorf("waited for %v", waited)
	}
	// The call has set off what was due.
	due := !holds || held.CanExpire && held.Expires.Sub(start) <= time.Minute
	if due && idle && !start.Before(pause) && len(m.began) == retrievals {
		m.Error("no retrieval was set off")
	}
}

// Random sources, slow, failing, hanging, deaf, with worse credentials, short
// lives and none, against the model.
func TestModel(t *testing.T) {
	seeds, calls := 100, atomic.Int64{}
	if raceDetector() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			m := &model{T: t, random: rand.New(rand.NewPCG(uint64(seed), 0)), over: make(chan struct{})}
			callers := rand.New(rand.NewPCG(uint64(seed), 1))
			provider := newProvider(t, m)
			var group sync.WaitGroup
			for end := time.Now().Add(2 * time.Hour); time.Now().Before(end) && !t.Failed(); {
				for range 1 + max(callers.IntN(6)-3, 0) {
					patience := time.Duration(max(callers.IntN(6)-2, 0)) * 1500 * time.Millisecond
					calls.Add(1)
					group.Go(func() { m.call(provider, patience) })
				}
				synctest.Wait()
				time.Sleep(time.Duration(callers.IntN(30_000_000)) * time.Microsecond)
			}
			group.Wait()
			close(m.over)
			time.Sleep(time.Hour) // retrievals end with it
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	t.Logf("%d calls, %d seeds", calls.Load(), seeds)
}

// raceDetector reports whether it is at work: what is long runs short under it.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// Thirty days of a service with credentials that expire after an hour, and a token
// a minute, or more where it matters, each verified at its moment.
func TestThirtyDays(t *testing.T) {
	days := 30
	if raceDetector() {
		days = 1
	}
	for name, set := range map[string]func(m *month){
		"healthy": func(m *month) {
			m.takes = func() time.Duration { return m.between(20*time.Millisecond, 2*time.Second) }
		},
		"outages": func(m *month) {
			m.takes = func() time.Duration { return m.between(20*time.Millisecond, 2*time.Second) }
			m.every, m.lasts = 4*time.Hour, 12*time.Minute
			m.fails = 10
		},
		"slow": func(m *month) {
			m.takes = func() time.Duration { return 800 * time.Millisecond }
			m.every, m.lasts, m.hangs = time.Hour, 3*time.Minute, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &month{T: t, random: rand.New(rand.NewPCG(1, 2))}
				set(m)
				m.run(days)
				time.Sleep(time.Hour) // so does the last retrieval
			})
		})
	}
}

// A month is a service's, and its source's of credentials.
type month struct {
	*testing.T
	authority
	takes  func() time.Duration // a retrieval
	fails  int                  // one retrieval in so many
	every  time.Duration        // from one outage to the next, at most
	lasts  time.Duration        // an outage, at most
	hangs  bool                 // in an outage
	faults atomic.Int32

	mu     sync.Mutex
	random *rand.Rand
}

func (m *month) between(low, high time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return low + time.Duration(m.random.Int64N(int64(high-low)))
}

func (m *month) run(days int) {
	type outage struct{ from, to time.Time }
	var outages []outage
	end := time.Now().Add(time.Duration(days) * 24 * time.Hour)
	for from := time.Now(); m.every > 0; {
		from = from.Add(m.between(10*time.Minute, m.every))
		to := from.Add(m.lasts)
		if !m.hangs {
			to = from.Add(m.between(2*time.Minute, m.lasts))
		}
		outages = append(outages, outage{from, to})
		if from = to; from.After(end) {
			break
		}
	}
	source := &source{retrieve: func(context.Context) (aws.Credentials, error) {
		time.Sleep(m.takes())
		now := time.Now()
		for _, o := range outages {
			if now.Before(o.from) || !now.Before(o.to) {
				continue
			}
			m.faults.Add(1)
			if !m.hangs {
				return aws.Credentials{}, errOutage
			}
			time.Sleep(o.to.Sub(now)) // deaf to its context
		}
		if m.fails > 0 && m.between(0, time.Duration(m.fails)) == 0 {
			m.faults.Add(1)
			return aws.Credentials{}, errOutage
		}
		return m.issue(time.Hour), nil
	}}
	provider := newProvider(m, source)
	held, err := provider.RetrieveBearerToken(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	tokens, refusals, waits := 0, 0, 0
	var pause time.Duration
	for ; time.Now().Before(end); time.Sleep(m.between(0, pause)) {
		pause = 2 * time.Minute
		if time.Until(held.Expires) < 6*time.Minute {
			pause = 14 * time.Second // where it matters
		}
		start := time.Now()
		token, err := provider.RetrieveBearerToken(m.Context())
		left, waited := held.Expires.Sub(start), time.Since(start)
		if left > 0 && waited > 0 {
			waits++
			if left > time.Minute || waited > time.Second && left > waited {
				m.Fatalf("waited for %v with %v left", waited, left)
			}
		}
		if err != nil {
			refusals++
			if !errors.Is(err, errOutage) || !errors.Is(err, bedrocktoken.ErrCredentials) {
				m.Fatalf("not the source's error: %v", err)
			}
			if left > waited {
				m.Fatalf("an error with %v left: %v", left, err)
			}
			continue
		}
		tokens++
		if _, err := m.verify(token.Value); err != nil {
			m.Fatal(err)
		}
		held = token
	}
	calls := int(source.calls.Load())
	m.Logf("%d days: %d tokens, %d errors, %d calls waited with credentials at hand; %d outages, %d retrievals, %d of them failed or hung",
		days, tokens, refusals, waits, len(outages), calls, m.faults.Load())
	if m.every == 0 && (calls < days*24 || calls > days*24*60/55+1) {
		m.Errorf("%d retrievals in %d days, want about one an hour", calls, days)
	}
	if m.every > 0 && int(m.faults.Load()) < days {
		m.Errorf("%d faults: too few to show anything", m.faults.Load())
	}
	if m.fails == 0 && (refusals > 0 || waits > 0) {
		m.Errorf("%d errors, %d calls waited", refusals, waits)
	}
	if m.fails > 0 && refusals == 0 && days == 30 {
		m.Error("no errors: the outages were too short to show anything")
	}
}
