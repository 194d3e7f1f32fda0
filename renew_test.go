package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// A fixture has a Provider in a bubble of testing/synctest, and a source whose
// answers a test sets. The credentials issued are counted from 0.
type fixture struct {
	*testing.T
	awstest.Authority
	source   *awstest.Source
	provider *bedrocktoken.Provider
	over     chan struct{} // closed when the test ends

	mu   sync.Mutex
	told []error // what the handler was told
}

// onFixture calls test with a fixture. Its source assumes a role for an hour.
func onFixture(t *testing.T, name string, test func(f *fixture)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			defer f.end()
			test(f)
		})
	})
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, source: awstest.NewSource(nil), over: make(chan struct{})}
	f.gives(time.Hour, 0)
	f.provider = f.newProvider(f.source)
	return f
}

func (f *fixture) end() {
	close(f.over)
	time.Sleep(time.Hour) // retrievals end meanwhile
}

func (f *fixture) newProvider(source aws.CredentialsProvider) *bedrocktoken.Provider {
	return newProvider(f, source, bedrocktoken.WithRenewalErrorHandler(func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, err)
	}))
}

// gives makes retrievals take some time and bring new credentials.
func (f *fixture) gives(life, takes time.Duration) {
	f.source.Set(func(context.Context) (aws.Credentials, error) {
		time.Sleep(takes)
		creds := f.Issue(life)
		creds.Source = stscreds.ProviderName
		return creds, nil
	})
}

// fails makes retrievals take some time and fail.
func (f *fixture) fails(err error, takes time.Duration) {
	f.source.Set(func(context.Context) (aws.Credentials, error) {
		time.Sleep(takes)
		return aws.Credentials{}, err
	})
}

// hangs makes retrievals hang until the test ends, whatever their context says.
func (f *fixture) hangs() {
	f.source.Set(func(context.Context) (aws.Credentials, error) {
		<-f.over
		return aws.Credentials{}, errRefused
	})
}

// call checks that a call waits for that long and is served the nth credentials.
func (f *fixture) call(nth int, wait time.Duration) {
	f.Helper()
	asked := time.Now()
	token, err := f.provider.RetrieveBearerToken(f.Context())
	if waited := time.Since(asked); err != nil || waited != wait {
		f.Fatalf("error %v after %v, want a token after %v", err, waited, wait)
	}
	want := f.Nth(nth)
	signedBy(f, token.Value, region, want)
	if now := time.Now(); want.Expires.After(now) && !token.Expires.Equal(want.Expires) || !token.Expires.After(now) {
		f.Errorf("the token is said to expire at %v, its credentials do at %v", token.Expires, want.Expires)
	}
}

// fail checks that a call waits for that long and fails, and returns its error.
func (f *fixture) fail(wait time.Duration) error {
	f.Helper()
	asked := time.Now()
	token, err := f.provider.Token(f.Context())
	if waited := time.Since(asked); !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" || waited != wait {
		f.Fatalf("%q and error %v after %v, want ErrCredentials after %v", token, err, waited, wait)
	}
	return err
}

// retrievals checks how many retrievals have begun.
func (f *fixture) retrievals(want int) {
	f.Helper()
	synctest.Wait()
	if n := f.source.Calls(); n != want {
		f.Errorf("%d retrievals, want %d", n, want)
	}
}

// handlerTold returns what the handler was told.
func (f *fixture) handlerTold() []error {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

var errOutage = fmt.Errorf("no answer: %w", context.DeadlineExceeded)

// The first call in the advisory window begins a renewal, for which nobody waits.
func TestRenewalIsInTheBackground(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		f.gives(time.Hour, 2*time.Second)
		f.call(0, 2*time.Second)
		time.Sleep(45*time.Minute - time.Nanosecond)
		f.call(0, 0)
		f.retrievals(1)
		time.Sleep(time.Nanosecond)
		f.call(0, 0)
		f.call(0, 0)
		f.retrievals(2)
		time.Sleep(2*time.Second + time.Nanosecond)
		f.call(1, 0)
		f.retrievals(2)
	})
}

// In the last minute a call waits for a renewal, but no longer than for a second from
// its start, nor for more than half of what its deadline leaves.
func TestCallsWaitInTheLastMinute(t *testing.T) {
	for name, test := range map[string]struct {
		left     time.Duration // of the credentials
		takes    time.Duration // of the renewal
		deadline time.Duration // of the caller
		nth      int
		wait     time.Duration
	}{
		"quick":              {59 * time.Second, 400 * time.Millisecond, 0, 1, 400 * time.Millisecond},
		"slow":               {59 * time.Second, 3 * time.Second, 0, 0, time.Second},
		"deadline":           {59 * time.Second, 3 * time.Second, 800 * time.Millisecond, 0, 400 * time.Millisecond},
		"later deadline":     {59 * time.Second, 3 * time.Second, 3 * time.Second, 0, time.Second},
		"they end meanwhile": {500 * time.Millisecond, 3 * time.Second, 0, 1, 3 * time.Second},
		"they end then":      {time.Second, 3 * time.Second, 0, 1, 3 * time.Second},
	} {
		onFixture(t, name, func(f *fixture) {
			f.call(0, 0)
			time.Sleep(time.Hour - test.left)
			f.gives(time.Hour, test.takes)
			if test.deadline > 0 {
				ctx, cancel := context.WithTimeout(f.Context(), test.deadline)
				defer cancel()
				asked := time.Now()
				token, err := f.provider.Token(ctx)
				if waited := time.Since(asked); err != nil || waited != test.wait {
					f.Fatalf("error %v after %v, want a token after %v", err, waited, test.wait)
				}
				signedBy(f, token, region, f.Nth(0))
				return
			}
			var late sync.WaitGroup
			if test.takes > time.Second && test.nth == 0 {
				late.Go(func() {
					time.Sleep(700 * time.Millisecond)
					f.call(0, 300*time.Millisecond)
					f.call(0, 0)
				})
			}
			f.call(test.nth, test.wait)
			late.Wait()
			f.retrievals(2)
		})
	}
}

// Calls without credentials wait for one retrieval, and so do calls in an outage that
// comes to an end after hours without calls.
func TestCallsShareARetrieval(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		together := func(nth int) {
			var callers sync.WaitGroup
			for range 50 {
				callers.Go(func() { f.call(nth, 300*time.Millisecond) })
			}
			callers.Wait()
		}
		f.gives(time.Hour, 300*time.Millisecond)
		together(0)
		f.retrievals(1)
		time.Sleep(61 * time.Minute)
		f.fails(errOutage, 0)
		f.call(0, 0)
		time.Sleep(8 * time.Hour)
		f.gives(time.Hour, 300*time.Millisecond)
		together(1)
		f.retrievals(3)
	})
}

// A caller whose context is done returns at once, and another gets its token.
func TestCanceledCallHarmsNoOther(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		f.gives(time.Hour, 3*time.Second)
		var other sync.WaitGroup
		other.Go(func() { f.call(0, 3*time.Second) })
		ctx, cancel := context.WithCancel(f.Context())
		time.AfterFunc(time.Second, cancel)
		asked := time.Now()
		if _, err := f.provider.Token(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, bedrocktoken.ErrCredentials) || time.Since(asked) != time.Second {
			f.Errorf("error %v after %v", err, time.Since(asked))
		}
		other.Wait()
		f.retrievals(1)
	})
}

// A retrieval has the context of no caller: without a caller's values, and done when
// it is abandoned.
func TestRetrievalHasItsOwnContext(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		type key struct{}
		var retrieval context.Context
		f.source.Set(func(ctx context.Context) (aws.Credentials, error) {
			retrieval = ctx
			<-ctx.Done()
			return aws.Credentials{}, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(context.WithValue(f.Context(), key{}, "x"), time.Second)
		defer cancel()
		f.provider.Token(ctx)
		time.Sleep(59*time.Second - 1)
		if synctest.Wait(); retrieval.Err() != nil || retrieval.Value(key{}) != nil {
			f.Errorf("before the minute is over: error %v, value %v", retrieval.Err(), retrieval.Value(key{}))
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); retrieval.Err() == nil {
			f.Error("the context is not done after a minute")
		}
	})
}

// A retrieval is abandoned after a minute, and its answer is lost.
func TestRetrievalIsAbandoned(t *testing.T) {
	onFixture(t, "nothing held", func(f *fixture) {
		f.gives(time.Hour, time.Minute+time.Nanosecond)
		err := f.fail(time.Minute)
		if !errors.Is(err, bedrocktoken.ErrOutage) || !strings.Contains(err.Error(), "did not answer within a minute") {
			f.Errorf("error is %v, want ErrOutage", err)
		}
		f.fail(0)
		f.gives(time.Hour, 0)
		time.Sleep(5 * time.Second)
		f.call(1, 0)
		f.retrievals(2)
	})
	onFixture(t, "the source ends its goroutine", func(f *fixture) {
		f.source.Set(func(context.Context) (aws.Credentials, error) {
			runtime.Goexit()
			return aws.Credentials{}, nil
		})
		f.fail(0)
	})
	onFixture(t, "held", func(f *fixture) {
		f.call(0, 0)
		time.Sleep(56 * time.Minute)
		f.hangs()
		for range 69 {
			f.call(0, 0)
			time.Sleep(time.Second)
		}
		f.retrievals(2)
		f.gives(time.Hour, 0)
		time.Sleep(time.Second)
		f.call(0, 0)
		f.retrievals(3)
		f.call(1, 0)
	})
}

// A source that refuses is asked once in 1 to 5 seconds, however many callers there
// are, and all are told why. When it is back they are served as soon.
func TestErrorStandsForSeconds(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		var asked []time.Time
		f.source.Set(func(context.Context) (aws.Credentials, error) {
			asked = append(asked, time.Now())
			time.Sleep(20 * time.Millisecond)
			return aws.Credentials{}, errRefused
		})
		for range 60 * 50 {
			if _, err := f.provider.Token(f.Context()); !errors.Is(err, errRefused) || errors.Is(err, bedrocktoken.ErrOutage) {
				f.Fatalf("error is %v, want the source's", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		var gaps []time.Duration
		for i := range asked[1:] {
			gaps = append(gaps, asked[i+1].Sub(asked[i]))
		}
		if low, high := slices.Min(gaps), slices.Max(gaps); low < time.Second || high > 5*time.Second+100*time.Millisecond || high-low < time.Second {
			f.Errorf("the source is asked each %v to %v, want 1 to 5 seconds", low, high)
		}
		f.gives(time.Hour, 0)
		time.Sleep(5 * time.Second)
		f.call(0, 0)
		if told := f.handlerTold(); len(told) != 0 {
			f.Errorf("the handler was told %v, and so were the callers", told)
		}
	})
}

// The handler is told each failure while calls are served, and why other credentials
// are not taken: with the source's error, of what kind it is, and until when the held
// ones are used.
func TestRenewalErrorHandler(t *testing.T) {
	held := "are used until 2000-01-01T01:00:00Z: "
	for name, test := range map[string]struct {
		err    error
		creds  aws.Credentials
		after  time.Duration
		outage bool
		signIn bool // whether it says "failed to refresh cached credentials"
		says   []string
	}{
		"refusal":         {err: errRefused, after: 45 * time.Minute, signIn: true, says: []string{held}},
		"outage":          {err: errOutage, after: 45 * time.Minute, outage: true, signIn: true, says: []string{held}},
		"outage, expired": {err: errOutage, after: 61 * time.Minute, outage: true, signIn: true, says: []string{"are used until 2000-01-01T01:03:10Z: "}},
		"sooner to end": {creds: aws.Credentials{Source: stscreds.ProviderName, Expires: time.Date(2000, 1, 1, 0, 50, 0, 0, time.UTC)},
			after: 45 * time.Minute, says: []string{held, "expire sooner, at 2000-01-01T00:50:00Z"}},
		"another identity": {creds: aws.Credentials{Source: ec2rolecreds.ProviderName, Expires: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)},
			after: 45 * time.Minute, says: []string{held, "EC2RoleProvider", "another identity", "a restart uses them"}},
		"malformed": {creds: aws.Credentials{Source: stscreds.ProviderName, SessionToken: "a b", Expires: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)},
			after: 45 * time.Minute, says: []string{held, "the session token contains a space"}},
	} {
		onFixture(t, name, func(f *fixture) {
			f.call(0, 0)
			time.Sleep(test.after)
			f.fails(test.err, 0)
			if test.err == nil {
				test.creds.AccessKeyID, test.creds.SecretAccessKey, test.creds.CanExpire = accessKeyID, secretKey, true
				f.source.Set(func(context.Context) (aws.Credentials, error) { return test.creds, nil })
			}
			for n := 1; n < 3; n++ {
				f.call(0, 0)
				told := f.handlerTold()
				if len(told) != n {
					f.Fatalf("told %v after %d failures", told, n)
				}
				text := told[n-1].Error()
				if n > 1 && test.after > time.Hour {
					break // the text names another time
				}
				if !errors.Is(told[n-1], bedrocktoken.ErrCredentials) || errors.Is(told[n-1], bedrocktoken.ErrOutage) != test.outage || test.err != nil && !errors.Is(told[n-1], test.err) {
					f.Errorf("told %v, of another kind", told[n-1])
				}
				if strings.Contains(text, "failed to refresh cached credentials") != test.signIn || !slices.ContainsFunc(test.says, func(part string) bool { return strings.Contains(text, part) }) {
					f.Errorf("told %q, want %q", text, test.says)
				}
				time.Sleep(10 * time.Second)
			}
		})
	}
	onFixture(t, "no expiry", func(f *fixture) {
		creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey}
		f.source.Set(func(context.Context) (aws.Credentials, error) { return creds, nil })
		f.provider.Token(f.Context())
		f.fails(errRefused, 0)
		time.Sleep(5 * time.Minute)
		f.provider.Token(f.Context())
		if told := f.handlerTold(); len(told) != 1 || !strings.Contains(told[0].Error(), "the held credentials, which do not expire, are still used: ") {
			f.Errorf("told %v", told)
		}
	})
	onFixture(t, "blocks", func(f *fixture) {
		f.provider = newProvider(f, f.source, bedrocktoken.WithRenewalErrorHandler(func(error) { <-f.over }))
		f.call(0, 0)
		f.fails(errRefused, 0)
		time.Sleep(45 * time.Minute)
		for range 5 {
			f.call(0, 0)
			time.Sleep(time.Minute)
		}
		f.gives(time.Hour, 0)
		time.Sleep(5 * time.Minute)
		f.call(0, 0)
		synctest.Wait()
		f.call(1, 0)
	})
}

// A 401 or 403 from Bedrock renews the credentials that signed the request, and no
// other answer does.
func TestRefusalByBedrockRenews(t *testing.T) {
	for status, retrievals := range map[int]int{200: 1, 400: 1, 401: 2, 403: 2, 404: 1, 429: 1, 500: 1} {
		onFixture(t, fmt.Sprint(status), func(f *fixture) {
			transport := f.provider.Transport(awstest.RoundTripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Body: http.NoBody}, nil
			}))
			f.call(0, 0)
			time.Sleep(10 * time.Minute)
			request, _ := http.NewRequestWithContext(f.Context(), http.MethodGet, "https://bedrock.us-east-1.amazonaws.com/", nil)
			response, err := transport.RoundTrip(request)
			if err != nil || response.StatusCode != status {
				f.Fatalf("response %v, error %v", response, err)
			}
			f.retrievals(retrievals)
			f.call(retrievals-1, 0)
		})
	}
}

// An aws.CredentialsCache is a source like any other, but for what it keeps itself.
func TestCacheIsASource(t *testing.T) {
	cached := func(window time.Duration) func(f *fixture) {
		return func(f *fixture) {
			f.provider = f.newProvider(aws.NewCredentialsCache(f.source, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = window }))
		}
	}
	onFixture(t, "outage", func(f *fixture) {
		cached(0)(f)
		f.call(0, 0)
		f.fails(errOutage, 0)
		time.Sleep(61 * time.Minute)
		f.call(0, 0)
		if told := f.handlerTold(); len(told) != 1 || !errors.Is(told[0], bedrocktoken.ErrOutage) || strings.Count(told[0].Error(), "failed to refresh") != 1 {
			f.Errorf("told %v", told)
		}
		f.gives(time.Hour, 0)
		time.Sleep(10 * time.Second)
		f.call(0, 0)
		synctest.Wait()
		f.call(1, 0)
	})
	onFixture(t, "its window makes them look expired", func(f *fixture) {
		cached(5 * time.Minute)(f)
		f.gives(4*time.Minute, 0)
		token, err := f.provider.RetrieveBearerToken(f.Context())
		if err != nil || time.Until(token.Expires) != 2*time.Minute {
			f.Fatalf("token until %v, error %v; want one for two minutes", token.Expires, err)
		}
		signedBy(f, token.Value, region, f.Nth(0))
		time.Sleep(2 * time.Minute)
		if token, err = f.provider.RetrieveBearerToken(f.Context()); err != nil {
			f.Fatal(err)
		}
		signedBy(f, token.Value, region, f.Nth(1))
	})
	onFixture(t, "no window explains it", func(f *fixture) {
		cached(5 * time.Minute)(f)
		f.gives(-8*time.Hour, 0)
		f.fail(0)
	})
	onFixture(t, "a request hangs in it", func(f *fixture) {
		cached(0)(f)
		f.call(0, 0)
		f.hangs()
		time.Sleep(time.Hour)
		f.call(0, time.Minute) // then they are bridged
		f.call(0, 0)
	})
}

// The credentials of a StaticCredentialsProvider are not retrieved again, and are
// refused once they have expired.
func TestStaticCredentialsExpire(t *testing.T) {
	onFixture(t, "", func(f *fixture) {
		creds := f.Issue(time.Hour)
		f.provider = f.newProvider(credentials.StaticCredentialsProvider{Value: creds})
		f.call(0, 0)
		time.Sleep(time.Hour)
		if err := f.fail(0); errors.Is(err, bedrocktoken.ErrOutage) || !strings.Contains(err.Error(), "the credentials expired at 2000-01-01T01:00:00Z") {
			f.Errorf("error is %v", err)
		}
	})
}

// A model is a source that behaves at random, and judges each call of a Provider by
// what it has given. It knows no schedule.
type model struct {
	*testing.T
	source string // of the credentials
	over   chan struct{}

	mu       sync.Mutex
	random   *rand.Rand
	mode     int       // what retrievals do now,
	since    time.Time // and since when
	began    time.Time // the last retrieval,
	underWay bool      // which may have been abandoned
	outage   bool      // whether the last one that ended was an outage
	served   bool      // whether a call has got a token
	issued   map[string]aws.Credentials
	may      map[string]time.Time // what may be held, and when it was given
}

const (
	giving = iota
	refusing
	outOfOrder
	hanging
)

func (m *model) between(low, high time.Duration) time.Duration {
	return low + time.Duration(m.random.Int64N(int64(high-low)))
}

func (m *model) abandoned(now time.Time) bool { return m.underWay && now.Sub(m.began) >= time.Minute }

func (m *model) Retrieve(context.Context) (aws.Credentials, error) {
	m.mu.Lock()
	began := time.Now()
	if m.underWay && !m.abandoned(began) {
		m.Errorf("two retrievals at once: the last one began %v ago", began.Sub(m.began))
	}
	m.outage = m.outage || m.abandoned(began)
	m.began, m.underWay = began, true
	mode, takes, life := m.mode, m.between(1, 2*time.Second), m.between(time.Second, 3*time.Minute)
	if mode == hanging {
		takes = m.between(50*time.Second, 2*time.Hour)
	}
	if m.random.IntN(2) == 0 {
		life *= 50
	}
	m.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-m.over:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	creds := aws.Credentials{AccessKeyID: fmt.Sprint("KEY", len(m.issued)), SecretAccessKey: "secret", Source: m.source,
		CanExpire: m.random.IntN(10) > 0, Expires: now.Add(life)}
	other := m.random.IntN(2) == 0
	var err error
	switch {
	case mode == outOfOrder && other: // expired credentials
		creds.CanExpire, creds.Expires = true, now.Add(-life)
	case mode == outOfOrder:
		err = errOutage
	case mode == refusing && other && m.served && m.source != ec2rolecreds.ProviderName: // those of the host
		creds.Source = ec2rolecreds.ProviderName
	case mode == refusing:
		err = errRefused
	}
	m.issued[creds.AccessKeyID] = creds
	if now.Sub(began) >= time.Minute {
		return creds, err // too late
	}
	m.underWay, m.outage = false, mode == outOfOrder && m.source != ""
	if mode == giving || mode == hanging {
		m.may[creds.AccessKeyID] = now
	}
	return creds, err
}

// good reports whether all that may be held is good at t.
func (m *model) good(t time.Time) bool {
	for id := range m.may {
		if creds := m.issued[id]; creds.CanExpire && !creds.Expires.After(t) {
			return false
		}
	}
	return len(m.may) > 0
}

// call makes one call of provider and judges it. Bedrock answers with status.
func (m *model) call(provider *bedrocktoken.Provider, patience time.Duration, status int) {
	var token string
	transport := provider.Transport(awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		return &http.Response{StatusCode: status, Body: http.NoBody}, nil
	}))
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://bedrock.us-east-1.amazonaws.com/", nil)
	m.mu.Lock()
	start := time.Now()
	good, long, outage := m.good(start), m.good(start.Add(time.Minute)), m.outage || m.abandoned(start)
	m.mu.Unlock()
	_, err := transport.RoundTrip(request)

	m.mu.Lock()
	defer m.mu.Unlock()
	end := time.Now()
	waited := end.Sub(start)
	back := m.mode == giving && end.Sub(m.since) > 5*time.Minute+time.Minute+30*time.Second // pause, hung retrieval, next call
	switch canceled := errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, bedrocktoken.ErrCredentials); {
	case good && m.good(end) && (err != nil || waited > time.Second), long && waited > 0:
		m.Errorf("error %v after %v while what is held is good", err, waited)
	case canceled && waited != patience, waited > patience:
		m.Errorf("error %v after %v, with %v of patience", err, waited, patience)
	case back && err != nil && !canceled:
		m.Errorf("%v after the source came back: %v", end.Sub(m.since), err)
	}
	if err != nil {
		return
	}
	verified, err := verify.Service{Region: region, Secret: func(string, string) (string, error) { return "secret", nil }}.Verify(token)
	signer := m.issued[verified.AccessKeyID]
	if err != nil || signer.Source != m.source {
		m.Errorf("signed by credentials of %q, error %v", signer.Source, err)
	}
	outage = (outage || m.outage || m.abandoned(end)) && m.source != "" && !back
	if late := end.Sub(signer.Expires); signer.CanExpire && late >= 0 && !outage {
		m.Errorf("signed by credentials that expired %v ago, without an outage", late)
	}
	m.served = true
	for id, given := range m.may { // what was given before has been replaced, or was not taken
		if id != signer.AccessKeyID && given.Before(start) {
			delete(m.may, id)
		}
	}
}

// With sources, callers and refusals by Bedrock at random: no error and no wait of
// more than a second while what is held is good, and none before its last minute; one
// retrieval at a time; no expired credentials but in an outage of a source that
// bridges, nor six minutes after it; no other identity; and nothing is left behind.
func TestRenewalInvariants(t *testing.T) {
	seeds := 40
	if raceDetector() {
		seeds = 6
	}
	for seed := range seeds {
		parallel(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &model{T: t, source: []string{stscreds.ProviderName, "", ec2rolecreds.ProviderName}[seed%3], over: make(chan struct{}),
				random: rand.New(rand.NewPCG(uint64(seed), 0)), issued: map[string]aws.Credentials{}, may: map[string]time.Time{}}
			callers := rand.New(rand.NewPCG(uint64(seed), 1))
			provider := newProvider(t, m)
			var group sync.WaitGroup
			for end := time.Now().Add(3 * time.Hour); time.Now().Before(end) && !t.Failed(); time.Sleep(time.Duration(callers.Int64N(int64(15 * time.Second)))) {
				if m.mu.Lock(); callers.IntN(40) == 0 {
					m.mode, m.since = max(0, callers.IntN(6)-2), time.Now()
				}
				m.mu.Unlock()
				for range 1 + max(0, callers.IntN(6)-3) {
					status := []int{http.StatusOK, http.StatusForbidden}[callers.IntN(20)/19]
					patience := time.Duration(callers.Int64N(int64(20*time.Second))) + 1
					group.Go(func() { m.call(provider, patience, status) })
				}
				synctest.Wait()
			}
			group.Wait()
			close(m.over)
			time.Sleep(time.Hour) // retrievals end meanwhile
		})
	}
}

// parallel runs a test in a bubble, beside others.
func parallel(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
}

// A service runs for long. Each token is signed by the newest credentials or, if they
// have just come, by those before.
func TestMonths(t *testing.T) {
	for name, month := range map[string]struct {
		source             string
		days               int
		takes, each, lasts time.Duration // of a retrieval; from one time of trouble to the next, and its length
		err                error         // of retrievals in trouble; they hang if it is nil
		perfect            bool          // no call fails, or waits after the first
	}{
		"healthy":                           {stscreds.ProviderName, 30, time.Second, 1000 * time.Hour, 0, nil, true},
		"EC2, down for 14 hours of each 24": {ec2rolecreds.ProviderName, 3, 2 * time.Second, 24 * time.Hour, 14 * time.Hour, errOutage, true},
		"slow, hangs for 3 minutes an hour": {stscreds.ProviderName, 30, 800 * time.Millisecond, time.Hour, 3 * time.Minute, nil, true},
		"refuses for 40 minutes of 5 hours": {"", 30, time.Second, 5 * time.Hour, 40 * time.Minute, errRefused, false},
	} {
		parallel(t, name, func(t *testing.T) {
			f := newFixture(t)
			defer f.end()
			days := month.days
			if raceDetector() {
				days = 1
			}
			random, start := rand.New(rand.NewPCG(1, 2)), time.Now()
			trouble := func() time.Duration { // that is left
				return month.lasts - (time.Since(start)+month.each-10*time.Minute)%month.each
			}
			f.source.Set(func(context.Context) (aws.Credentials, error) {
				time.Sleep(month.takes)
				if left := trouble(); left > 0 && month.err != nil {
					return aws.Credentials{}, month.err
				} else if left > 0 {
					time.Sleep(left)
				}
				creds := f.Issue(time.Hour)
				creds.Source = month.source
				return creds, nil
			})
			f.call(0, month.takes)
			tokens, expired, failed, waited := 1, 0, 0, 0
			for time.Since(start) < time.Duration(days)*24*time.Hour {
				time.Sleep(time.Duration(random.Int64N(int64(2 * time.Minute))))
				asked := time.Now()
				token, err := f.provider.RetrieveBearerToken(f.Context())
				if time.Since(asked) > 0 {
					waited++
				}
				if err != nil {
					failed++
					continue
				}
				tokens++
				if _, err := f.Verify(token.Value, region); err != nil {
					expired++
					signedBy(f, token.Value, region, f.Newest())
				}
			}
			f.Logf("%d days: %d tokens, %d of them by expired credentials, %d errors, %d calls waited, %d retrievals",
				days, tokens, expired, failed, waited, f.source.Calls())
			if month.perfect && failed+waited > 0 || month.source == "" && expired > 0 {
				f.Error("a promise is broken")
			}
		})
	}
}
