package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
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
	source   string // of the credentials
	stable   bool   // whether they are used in an outage
	held     aws.Credentials
	began    []time.Time // of each retrieval
	underWay bool
	outage   bool      // whether the last retrieval was one, and held is used
	trouble  time.Time // when the first retrieval began that brought nothing
	pause    time.Time // no retrieval begins before, and the first call after it begins one
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
	outage := false
	switch m.random.IntN(10) {
	case 0, 1:
		err = errRefused
	case 2:
		life = m.between(time.Second, 90*time.Second)
	case 3:
		creds = m.held // which may have expired
	case 4:
		life = 0
	case 5, 6, 7:
		err, outage = statusError(503), true
	}
	m.mu.Unlock()

	time.AfterFunc(time.Minute, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.underWay && m.began[len(m.began)-1].Equal(start) {
			m.failed(time.Now(), start, true)
			if !m.holds(time.Now()) && !m.outage {
				m.pause = time.Now().Add(10 * time.Second)
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
		return aws.Credentials{}, errRefused
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if err == nil && !creds.HasKeys() {
		creds = m.Issue(cmp.Or(life, 1000*time.Hour))
		creds.CanExpire, creds.Source = life != 0, m.source
	}
	if now.Sub(start) >= time.Minute {
		return creds, err // too late
	}
	expired := err == nil && creds.CanExpire && !now.Before(creds.Expires)
	worse := m.holds(now) && creds.CanExpire && (creds == m.held ||
		m.held.CanExpire && creds.Expires.Before(m.held.Expires) ||
		!m.held.CanExpire && creds.Expires.Sub(now) <= time.Minute)
	if err != nil || expired || worse {
		m.failed(now, start, outage || expired)
		return creds, err
	}
	m.underWay, m.outage, m.trouble = false, false, time.Time{}
	m.held, m.pause = creds, now.Add(5*time.Minute)
	if creds.CanExpire {
		window := time.Hour
		switch life := creds.Expires.Sub(now); {
		case life <= 20*time.Minute:
			window = max(min(5*time.Minute, life/2), time.Minute)
		case life < 90*time.Minute:
			window = 15 * time.Minute
		}
		m.pause = now.Add(10 * time.Second)
		if due := creds.Expires.Add(-window); due.After(now) {
			m.pause = due
		}
		if creds.Expires.Before(m.pause) {
			m.pause = creds.Expires
		}
	}
	return creds, err
}

// failed records a retrieval that brought nothing.
func (m *model) failed(now, start time.Time, outage bool) {
	m.underWay, m.outage = false, outage && m.stable && m.held.HasKeys()
	if !m.holds(now) && !m.outage {
		m.pause = time.Time{}
		return
	}
	if m.trouble.IsZero() {
		m.trouble = start
	}
	pause := min(now.Sub(m.trouble)/4, 5*time.Minute)
	if m.held.CanExpire && m.holds(now) {
		pause = min(pause, m.held.Expires.Sub(now)/4)
	}
	m.pause = now.Add(max(pause, 10*time.Second))
	if !m.outage && m.held.CanExpire && m.held.Expires.Before(m.pause) {
		m.pause = m.held.Expires
	}
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
	start, held, retrievals, pause := time.Now(), m.held, len(m.began), m.pause
	holds, outage, idle := m.holds(start) || m.outage, m.outage, !m.underWay
	m.mu.Unlock()
	token, err := provider.RetrieveBearerToken(ctx)
	end := time.Now()
	time.Sleep(time.Nanosecond) // for the retrieval that the call began to reach the source
	m.mu.Lock()
	defer m.mu.Unlock()
	waited := end.Sub(start)
	lastMinute := holds && !outage && held.CanExpire && held.Expires.Sub(start) <= time.Minute

	if err == nil {
		signer := m.held
		if _, err := verifyFor(token.Value, region, signer); err != nil {
			signer = held
		}
		if _, err := verifyFor(token.Value, region, signer); err != nil {
			m.Errorf("a token that does not work: %v", err)
		}
		if signer.CanExpire && !end.Before(signer.Expires) && !outage && !m.outage {
			m.Errorf("signed with credentials that expired %v ago, without an outage", end.Sub(signer.Expires))
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
	case err != nil && waited < patience && (m.holds(end) || m.outage):
		m.Errorf("an error while credentials are held: %v", err)
	case waited > time.Minute:
		m.Errorf("waited for %v", waited)
	}
	// The call has begun the retrieval that was due.
	if idle && !start.Before(pause) && len(m.began) == retrievals {
		m.Errorf("no retrieval was begun %v after the pause", start.Sub(pause))
	}
}

// The promises of the renewal hold with sources that are slow, fail, hang, ignore their
// context, or return credentials that expire soon, sooner than the held ones or never.
func TestModel(t *testing.T) {
	seeds, calls := 50, atomic.Int64{}
	if raceDetector() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			m := &model{T: t, random: rand.New(rand.NewPCG(uint64(seed), 0)), over: make(chan struct{})}
			if seed%2 == 0 {
				m.source, m.stable = stableSources[seed/2%len(stableSources)], true
			}
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
			m.every, m.lasts = 4*time.Hour, 40*time.Minute
			m.fails = 10
		},
		// The metadata service of an EC2 instance is down for hours. No call fails or
		// waits, and what it hands out afterwards is in use within 5 minutes.
		"instance": func(m *month) {
			m.takes = func() time.Duration { return m.between(20*time.Millisecond, 5*time.Second) }
			m.every, m.lasts, m.source = 12*time.Hour, 6*time.Hour, ec2rolecreds.ProviderName
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
	source string               // of the credentials: if not empty, one whose outages are told from refusals
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
			switch {
			case m.source != "":
				return aws.Credentials{}, statusError(503)
			case !m.hangs:
				return aws.Credentials{}, errRefused
			}
			time.Sleep(o.to.Sub(now)) // and ignores its context
		}
		if m.fails > 0 && m.between(0, time.Duration(m.fails)) == 0 {
			m.faults.Add(1)
			return aws.Credentials{}, errRefused
		}
		creds := m.Issue(time.Hour)
		creds.Source = m.source
		return creds, nil
	})
	provider := newProvider(m, source)
	held, err := provider.RetrieveBearerToken(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	tokens, beyond, refusals, waits := 0, 0, 0, 0
	var pause time.Duration
	for ; time.Now().Before(end); time.Sleep(m.between(0, pause)) {
		pause = 3 * time.Minute
		if time.Until(held.Expires) < 6*time.Minute {
			pause = 14 * time.Second
			if m.source != "" {
				pause = 45 * time.Second // which is nearly all of the time
			}
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
			if !errors.Is(err, errRefused) || !errors.Is(err, bedrocktoken.ErrCredentials) {
				m.Fatalf("not the source's error: %v", err)
			}
			if left > waited {
				m.Fatalf("an error with %v left: %v", left, err)
			}
			continue
		}
		tokens++
		held = token
		if _, err := m.verify(token.Value); err == nil {
			continue
		} else if m.source == "" {
			m.Fatal(err)
		}
		if _, err := verifyFor(token.Value, region, m.Newest()); err != nil {
			m.Fatal(err)
		}
		beyond++
		if !slices.ContainsFunc(outages, func(o outage) bool {
			return start.After(o.from) && start.Before(o.to.Add(6*time.Minute))
		}) {
			m.Fatalf("at %v: signed with credentials that expired %v ago, without an outage", start, start.Sub(m.Newest().Expires))
		}
	}
	calls := source.Calls()
	m.Logf("%d days: %d tokens, %d of them by expired credentials in an outage, %d errors, %d calls waited with valid credentials; %d outages, %d retrievals, %d of them failed or hung",
		days, tokens, beyond, refusals, waits, len(outages), calls, m.faults.Load())
	if m.every == 0 && (calls < days*24*60/46 || calls > days*24*60/44) {
		m.Errorf("%d retrievals in %d days, want one in 45 minutes", calls, days)
	}
	if m.source != "" && beyond == 0 {
		m.Error("no token by expired credentials: the outages were too short to show anything")
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
