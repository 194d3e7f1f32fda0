package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// A model states the promises of the renewal in their shortest form. It is also a
// source of credentials that behaves at random, and judges each call of a Provider by
// what it has returned to it.
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

// between returns a random time that is not a number of whole microseconds. Callers
// come at whole microseconds, so no call coincides with what the source does.
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
		gone = ctx.Done() // the others ignore it
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
		creds = m.Issue(cmp.Or(life, 1000*time.Hour))
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

// call makes one call of provider and judges it.
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
	// The call has begun the retrieval that was due.
	due := !holds || held.CanExpire && held.Expires.Sub(start) <= time.Minute
	if due && idle && !start.Before(pause) && len(m.began) == retrievals {
		m.Error("no retrieval was begun")
	}
}

// The promises of the renewal hold with sources that are slow, fail, hang, ignore their
// context, or return credentials that expire soon, sooner than the held ones or never.
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
			time.Sleep(time.Hour) // retrievals end meanwhile
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	t.Logf("%d calls, %d seeds", calls.Load(), seeds)
}

// A service runs for thirty days with credentials that expire after an hour. It takes
// a token a minute, more often when they expire soon, and each is valid when it is
// taken.
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
				time.Sleep(time.Hour) // the last retrieval ends meanwhile
			})
		})
	}
}

// A month is what happens to a service and to its source of credentials.
type month struct {
	*testing.T
	authority
	takes  func() time.Duration // how long a retrieval takes
	fails  int                  // one in so many retrievals fails
	every  time.Duration        // the longest time from one outage to the next
	lasts  time.Duration        // the longest outage
	hangs  bool                 // in an outage retrievals hang, else they fail
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
	source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
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
			time.Sleep(o.to.Sub(now)) // and ignores its context
		}
		if m.fails > 0 && m.between(0, time.Duration(m.fails)) == 0 {
			m.faults.Add(1)
			return aws.Credentials{}, errOutage
		}
		return m.Issue(time.Hour), nil
	})
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
			pause = 14 * time.Second
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
	calls := source.Calls()
	m.Logf("%d days: %d tokens, %d errors, %d calls waited with valid credentials; %d outages, %d retrievals, %d of them failed or hung",
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
