package bedrocktoken

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/bedrocktoken/bedrocktoken/internal/outage"
)

const (
	// In the mandatory window, the last minute, callers wait for a renewal, but at
	// most renewalWait from its start. The advisory window before it is longer: see
	// advisoryWindow.
	mandatoryWindow = time.Minute
	renewalWait     = time.Second

	// Credentials without an expiry are retrieved again after this time.
	recheckAfter = 5 * time.Minute

	// A retrieval that has not ended after this time is abandoned.
	retrievalLimit = time.Minute

	// The pause after a renewal that brought nothing is within these bounds.
	minPause = 10 * time.Second
	maxPause = 5 * time.Minute

	// Credentials that have expired in an outage are used until this time after
	// the next attempt to renew them, which may take a minute to be abandoned.
	outageMargin = 2 * time.Minute
)

// cached returns a provider that caches the credentials of source, or source
// itself if it is a cache or has nothing to renew.
func cached(source aws.CredentialsProvider, handle func(error)) aws.CredentialsProvider {
	switch source := source.(type) {
	case *aws.CredentialsCache:
		return source
	case credentials.StaticCredentialsProvider:
		if !source.Value.CanExpire {
			return source
		}
	}
	return &renewer{source: source, handle: handle}
}

// A renewer is an [aws.CredentialsProvider] that caches the credentials of source.
// Retrieve decides whether a caller waits for a retrieval, begin runs it in its own
// goroutine, and settle records its outcome.
//
//	held credentials                   a retrieval is due   callers
//	none                               at once              wait for it
//	valid, before the advisory window  no                   are served
//	in the advisory window             at once              are served
//	in the last minute                 at once              wait a second at most, then are served
//	expired                            at once              wait for it
//	in an outage, even if expired      after a pause        are served
//	without an expiry                  every 5 minutes      are served
//
// A retrieval that brought nothing is followed by a pause. If there is nothing to
// serve, there is none, except after a retrieval that was abandoned: then all calls
// fail at once for minPause.
type renewer struct {
	source aws.CredentialsProvider
	handle func(error) // may be nil

	mu          sync.Mutex
	held        aws.Credentials // none at first
	advisory    time.Time       // when the advisory window of held begins
	next        time.Time       // when the next retrieval is due
	last        *retrieval      // under way or ended
	trouble     time.Time       // when the first fruitless retrieval began, or zero
	stableUntil time.Time       // in an outage, until when held is served, or zero
	refused     bool            // whether the service has refused held
}

type retrieval struct {
	began time.Time
	ended chan struct{} // closed once the rest is set

	// The outcome for callers that waited: what is served, or an error.
	credentials aws.Credentials
	err         error
}

// An answer is what a source returned, or what happened instead.
type answer struct {
	credentials aws.Credentials
	err         error
	outage      bool // whether err is one
}

func (r *renewer) Retrieve(ctx context.Context) (aws.Credentials, error) {
	r.mu.Lock()
	now := time.Now()
	left, inOutage := r.left(now), !r.stableUntil.IsZero()
	if passed(r.next, now) {
		r.begin(now)
	}
	if inOutage && left <= 0 { // nobody has called for long, or the process was stopped
		r.stableUntil = wallClock(now.Add(outageMargin))
	}
	served, last := r.served(), r.last
	r.mu.Unlock()

	wait := maxWait(ctx, left, inOutage, now, last.began)
	if wait <= 0 {
		return served, nil
	}
	var timeout <-chan time.Time
	if wait < forever {
		timeout = time.After(wait)
	}
	for {
		select {
		case <-last.ended:
			return last.credentials, last.err
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		case <-timeout:
			if live(served, time.Now()) {
				return served, nil
			}
			timeout = nil
		}
	}
}

// maxWait returns how long a caller may wait for the last retrieval, which began at
// began, while the held credentials are served for the time that is left.
func maxWait(ctx context.Context, left time.Duration, inOutage bool, now, began time.Time) time.Duration {
	switch {
	case left > mandatoryWindow, inOutage && left > 0:
		return 0
	case left <= 0 && !inOutage:
		return forever
	}
	wait := began.Add(renewalWait).Sub(now)
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, deadline.Sub(now)/2) // leave half for the caller's own request
	}
	return wait
}

// left returns for how long the held credentials are still served.
func (r *renewer) left(now time.Time) time.Duration {
	served := r.served()
	switch {
	case !served.HasKeys():
		return 0
	case !served.CanExpire:
		return forever
	}
	return served.Expires.Sub(now)
}

// served returns the held credentials with the time until which they are served.
func (r *renewer) served() aws.Credentials {
	served := r.held
	if r.stableUntil.After(served.Expires) {
		served.Expires = r.stableUntil
	}
	return served
}

// begin starts a retrieval. It does not use any caller's context. r.mu must be held.
func (r *renewer) begin(now time.Time) {
	this := &retrieval{began: now, ended: make(chan struct{})}
	r.last, r.next = this, now.Add(forever)
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		answers := make(chan answer, 1) // so that a late answer holds no goroutine
		go func() { answers <- ask(ctx, r.source) }()
		warning := r.settle(this, await(answers))
		cancel()
		if warning != nil && r.handle != nil {
			r.handle(warning)
		}
	}()
}

// ask retrieves credentials from source. Callers cannot recover a panic in this
// goroutine: it becomes an error.
func ask(ctx context.Context, source aws.CredentialsProvider) (a answer) {
	defer func() {
		if cause := recover(); cause != nil {
			a = answer{err: fmt.Errorf("the source of the credentials panicked: %v, in %s", cause, panicked())}
		}
	}()
	creds, err := source.Retrieve(ctx)
	if err != nil {
		return answer{err: err, outage: outage.Is(err)}
	}
	creds.Expires = wallClock(creds.Expires)
	if err := checkKeys(creds); err != nil {
		return answer{err: err}
	}
	return answer{credentials: creds}
}

// panicked returns where the panic was raised that the caller is recovering.
func panicked() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	raised := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if raised && !inRuntime {
			return fmt.Sprintf("%s (line %d)", frame.Function, frame.Line)
		}
		raised = raised || frame.Function == "runtime.gopanic"
		if !more {
			return "an unknown function"
		}
	}
}

// await returns the first answer, or an outage if none comes in time.
func await(answers <-chan answer) answer {
	limit := time.NewTimer(retrievalLimit)
	defer limit.Stop()
	for due := time.Now().Add(retrievalLimit); ; {
		select {
		case a := <-answers:
			return a
		case <-limit.C:
		}
		const late, moment = time.Second, 5 * time.Second
		if time.Since(due) <= late {
			return answer{err: outage.ErrNoAnswer, outage: true}
		}
		// The process was stopped, and the answer may lie in a socket, unread.
		due = time.Now().Add(moment)
		limit.Reset(moment)
	}
}

// settle records the outcome of a retrieval. It returns an error to report if the
// retrieval failed and callers do not learn of it.
func (r *renewer) settle(this *retrieval, a answer) (warning error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(this.ended)

	now := time.Now()
	if a.err == nil && !live(a.credentials, now) {
		if !r.held.HasKeys() && a.credentials.Source == ec2rolecreds.ProviderName {
			r.held = a.credentials // in an outage of its own: Bedrock decides, as with the SDKs
		}
		a.err = fmt.Errorf("the credentials expired at %s", a.credentials.Expires.Format(time.RFC3339))
		a.outage = true
	}
	stable := a.outage && usableInOutage(r.held)
	r.stableUntil = time.Time{}
	switch {
	case a.err == nil && r.better(a.credentials, now):
		r.held, r.advisory, r.refused = a.credentials, advisoryStart(a.credentials, now), false
		r.next, r.trouble = r.advisory, time.Time{}
		if !r.next.After(now) { // in their last minute already
			r.next = now.Add(minPause)
		}
	case a.err == nil && r.advisory.After(now): // the service refused held, and the source has no others
		r.next, r.trouble = r.advisory, time.Time{}
	case live(r.held, now) || stable:
		if r.trouble.IsZero() {
			r.trouble = this.began
		}
		r.next = now.Add(pause(now.Sub(r.trouble), r.held, now))
		if stable {
			r.stableUntil = wallClock(r.next.Add(outageMargin))
		}
		if a.err != nil {
			warning = renewalError(r.served(), a.err)
		}
	default:
		this.err, r.next = a.err, now
		if a.err == outage.ErrNoAnswer {
			r.next = now.Add(minPause) // so that calls do not each wait for a minute
		}
		return nil
	}
	if !stable && r.held.CanExpire && r.held.Expires.Before(r.next) {
		r.next = r.held.Expires
	}
	this.credentials = r.served()
	return warning
}

// better reports whether fresh, which is live, should replace the held credentials.
func (r *renewer) better(fresh aws.Credentials, now time.Time) bool {
	switch held := r.held; {
	case !live(held, now):
		return true
	case fresh.Source != held.Source && (fresh.Source == ec2rolecreds.ProviderName || fresh.Source == endpointcreds.ProviderName):
		return false // without its files the SDK falls back to the host's role, which is another identity
	case r.refused && !sameKeys(fresh, held):
		return true
	case !fresh.CanExpire:
		return true
	case !held.CanExpire:
		return fresh.Expires.Sub(now) > mandatoryWindow
	default:
		return fresh != held && !fresh.Expires.Before(held.Expires)
	}
}

// refuse says that the service refused a token signed with creds, whose role may
// have been revoked or made anew. They are renewed at once, at most once a minute,
// if that prompts nobody.
func (r *renewer) refuse(creds aws.Credentials) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	inPause := !r.trouble.IsZero() && !passed(r.next, now)
	if !sameKeys(creds, r.held) || !asksNobody(r.held) || inPause || now.Sub(r.last.began) <= time.Minute {
		return
	}
	select {
	case <-r.last.ended:
		r.refused = true
		r.begin(now)
	default:
	}
}

// usableInOutage reports whether creds are used after their expiry while their
// source is in an outage: AWS's SDKs call it static stability.
func usableInOutage(creds aws.Credentials) bool {
	switch creds.Source {
	case ec2rolecreds.ProviderName, endpointcreds.ProviderName, stscreds.ProviderName,
		stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName:
		return creds.HasKeys()
	}
	return false
}

// asksNobody reports whether creds can be renewed without asking a person for a
// code or a fingerprint, as a credential_process may, or a provider with a Source of
// its own.
func asksNobody(creds aws.Credentials) bool {
	return usableInOutage(creds) || creds.Source == config.CredentialsSourceName ||
		strings.HasPrefix(creds.Source, "SharedConfigCredentials: ")
}

// advisoryStart returns when the advisory window of just retrieved credentials
// begins. A source of credentials without an expiry is asked again every 5
// minutes, since a tool may replace keys in the shared files, but not a
// credential_process, which may prompt.
func advisoryStart(creds aws.Credentials, now time.Time) time.Time {
	switch {
	case creds.CanExpire:
		window := max(advisoryWindow(creds.Expires.Sub(now)), mandatoryWindow)
		return creds.Expires.Add(-window)
	case creds.Source == processcreds.ProviderName:
		return now.Add(forever)
	}
	return now.Add(recheckAfter)
}

// advisoryWindow returns how long before their expiry credentials of the given life
// are renewed, as in AWS's SDKs.
func advisoryWindow(life time.Duration) time.Duration {
	switch {
	case life <= 20*time.Minute:
		return min(5*time.Minute, life/2)
	case life < 90*time.Minute:
		return 15 * time.Minute
	}
	return time.Hour
}

// pause returns how long to wait after a renewal that brought nothing: a quarter
// of the time that the trouble has lasted or, if less, of the time that valid
// credentials have left. Short trouble is over in seconds, and a source that is
// down for hours is not flooded.
func pause(trouble time.Duration, held aws.Credentials, now time.Time) time.Duration {
	pause := min(trouble/4, maxPause)
	if held.CanExpire && live(held, now) {
		pause = min(pause, held.Expires.Sub(now)/4)
	}
	return max(pause, minPause)
}

const forever = time.Duration(1<<63 - 1)

func live(creds aws.Credentials, now time.Time) bool {
	return creds.HasKeys() && (!creds.CanExpire || now.Before(creds.Expires))
}

func sameKeys(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken
}

// passed reports whether t has come by either clock: the monotonic one stops while
// a machine is suspended, and the wall clock may be set back.
func passed(t, now time.Time) bool {
	return !now.Before(t) || !wallClock(now).Before(wallClock(t))
}

// wallClock returns t without its monotonic reading.
func wallClock(t time.Time) time.Time { return t.Round(0).UTC() }
