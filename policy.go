package bedrocktoken

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
)

const (
	lastMinute   = time.Minute      // of the held credentials, in which calls wait for the retrieval under way
	maxWait      = time.Second      // how long they do, from when it began
	recheckAfter = 5 * time.Minute  // when credentials without an expiry are retrieved again
	minPause     = 10 * time.Second // between retrievals while calls are served,
	maxPause     = 5 * time.Minute  // up to which it is doubled after each that failed
	denialPause  = time.Minute      // from the end of a retrieval to one that a denial asks for
	bridgeMargin = 2 * time.Minute  // from when a retrieval is due to the end of the bridge; it may take a minute
	forever      = time.Duration(1<<63 - 1)
)

// A policy decides when the credentials of a source are retrieved and what calls are
// served: the sections Renewal and Trouble of the package page. It has no clock,
// goroutine, lock or random number. A renewer tells it the time and what happens, and
// does the waiting, which a call's context may cut short.
//
// The words: a source fails, by an outage or otherwise; what it brings is taken, or
// not, which is a failure as well; Bedrock denies credentials.
type policy struct {
	held      aws.Credentials // what calls are served. None at first. Kept when they have expired
	denied    bool            // whether Bedrock has denied held
	bridgeEnd time.Time       // after an outage, until when held is served at once, expired or not; else zero

	due   time.Time     // when the next retrieval is to begin; far off while one is under way
	pause time.Duration // before due, if the last retrieval failed while calls are served
	began time.Time     // when the last retrieval began
	ended time.Time     // when the last retrieval that has ended did
}

// isDue reports whether the next retrieval is due, by either clock: the monotonic one
// stops while a machine is suspended, and the wall clock may be set back.
func (p *policy) isDue(now time.Time) bool {
	return !now.Before(p.due) || !wallClock(now).Before(wallClock(p.due))
}

// begin records that the retrieval that is due is under way.
func (p *policy) begin(now time.Time) { p.due, p.began = now.Add(forever), now }

// underWay reports whether the last retrieval has not ended.
func (p *policy) underWay() bool { return p.ended.Before(p.began) }

// call returns what a call is served, and how long it waits for the retrieval under
// way before that: forever if there is nothing to serve, and then what the retrieval
// brings. So it is if serve expires meanwhile.
func (p *policy) call(now time.Time) (serve aws.Credentials, wait time.Duration) {
	serve = p.held
	left, bridged := timeLeft(p.held, now), !p.bridgeEnd.IsZero()
	if bridged && p.held.CanExpire {
		untilAnswer := bridgeMargin - now.Sub(p.began) // of a retrieval under way that began late
		serve.Expires = wallClock(now).Add(max(left, p.bridgeEnd.Sub(now), untilAnswer))
	}
	switch {
	case left > lastMinute, bridged && now.Before(p.bridgeEnd):
		return serve, 0
	case left > 0, bridged: // the bridge has come to its end because nobody called
		return serve, p.began.Add(maxWait).Sub(now)
	default:
		return serve, forever
	}
}

// settle records what the retrieval under way brought: credentials, or an error. The
// error it returns is nil if they are taken. Otherwise it says why not: to the handler
// if calls are served, and else to the callers. The jitter is from 0 to 4 seconds.
func (p *policy) settle(now time.Time, fresh aws.Credentials, err error, jitter time.Duration) error {
	switch {
	case err != nil && !p.held.HasKeys():
		err = orNoneFound(err)
	case err == nil && timeLeft(fresh, now) < time.Second:
		err = expiredError(fresh)
		if !p.held.HasKeys() && fresh.Source == ec2rolecreds.ProviderName {
			p.held = fresh // and bridged: EC2 gives expired ones in an outage of its own
		}
	case err == nil:
		err = p.notTaken(now, fresh)
	}
	outage := isOutage(err) && traitsOf(p.held.Source).bridged

	var next time.Duration // until the next retrieval is due
	switch {
	case err == nil:
		p.denied = p.denied && sameKeys(fresh, p.held)
		p.held, p.pause = fresh, 0
		next = max(untilWindow(fresh, now), minPause)
	case timeLeft(p.held, now) > 0, outage: // calls are served
		p.pause = min(max(2*p.pause, minPause), maxPause)
		next = p.pause
	default: // there is nothing to serve
		p.pause = 0
		next = time.Second + jitter // or each call would ask the source
	}
	if left := timeLeft(p.held, now); 0 < left && left < next {
		p.pause, next = 0, left // what comes when held expires begins anew
	}
	p.due, p.ended, p.bridgeEnd = now.Add(next), now, time.Time{}
	if outage {
		p.bridgeEnd = wallClock(p.due.Add(bridgeMargin))
	}
	return err
}

// notTaken returns why fresh, which has not expired, does not replace held, or nil.
func (p *policy) notTaken(now time.Time, fresh aws.Credentials) error {
	left, freshLeft := timeLeft(p.held, now), timeLeft(fresh, now)
	switch {
	case p.held.HasKeys() && fresh.Source != p.held.Source && traitsOf(fresh.Source).machine: // whatever else holds
		return anotherIdentity(fresh)
	case p.denied, sameKeys(fresh, p.held): // whenever they expire
		return nil
	case freshLeft >= left, !p.held.CanExpire && freshLeft > lastMinute: // a tool has replaced endless keys
		return nil
	}
	return notTakenError("the source gives others that expire sooner, at " + fresh.Expires.Format(time.RFC3339))
}

// deny records that Bedrock answered 401 or 403 to a token that creds signed.
func (p *policy) deny(now time.Time, creds aws.Credentials) {
	if !sameKeys(creds, p.held) {
		return
	}
	p.denied = true
	next := max(0, denialPause-now.Sub(p.ended))
	if !p.underWay() && !p.isDue(now) && !traitsOf(p.held.Source).mayPrompt && now.Add(next).Before(p.due) {
		p.due = now.Add(next)
	}
}

// untilWindow returns how long it is until the advisory window of fresh, which has
// just come. The last three cases are AWS's.
func untilWindow(fresh aws.Credentials, now time.Time) time.Duration {
	switch left := timeLeft(fresh, now); {
	case !fresh.CanExpire && fresh.Source == processcreds.ProviderName:
		return forever // it may prompt
	case !fresh.CanExpire:
		return recheckAfter // a tool may have replaced the keys
	case left <= 20*time.Minute:
		return left - max(min(5*time.Minute, left/2), lastMinute)
	case left < 90*time.Minute:
		return left - 15*time.Minute
	default:
		return left - time.Hour
	}
}

// What holds for a source of credentials.
type traits struct {
	machine   bool // it is the EC2 instance or container, which the SDK falls back to without its files
	bridged   bool // in its outage, credentials are served after they have expired
	mayPrompt bool // it may ask a person, so it is not asked because Bedrock denies
}

func traitsOf(source string) traits {
	switch source {
	case ec2rolecreds.ProviderName, endpointcreds.ProviderName:
		return traits{machine: true, bridged: true}
	case stscreds.ProviderName, stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName:
		return traits{bridged: true}
	}
	keys := source == config.CredentialsSourceName || strings.HasPrefix(source, "SharedConfigCredentials: ")
	return traits{mayPrompt: !keys} // a credential_process, or a source of the user's own
}

// timeLeft returns how long it is until creds expire. They are good if that is positive.
func timeLeft(creds aws.Credentials, now time.Time) time.Duration {
	switch {
	case !creds.HasKeys():
		return 0
	case !creds.CanExpire:
		return forever
	}
	return creds.Expires.Sub(now)
}

func sameKeys(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken
}

// wallClock returns t without its monotonic reading.
func wallClock(t time.Time) time.Time { return t.Round(0).UTC() }
