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
	lastMinute   = time.Minute      // of the held credentials: calls wait for the retrieval under way
	lastWait     = time.Second      // how long they wait, from when it began
	minWindow    = time.Minute      // the shortest advisory window
	recheckAfter = 5 * time.Minute  // when credentials without an expiry are retrieved again
	minPause     = 10 * time.Second // after the first failure while calls are served
	maxPause     = 5 * time.Minute  // which the pause is doubled up to
	denialPause  = time.Minute      // from a retrieval to the next one that a denial asks for
	bridgeMargin = 2 * time.Minute  // from when a retrieval is due to the bridge's end; more than retrievalLimit
	forever      = time.Duration(1<<63 - 1)
)

// A policy decides when the credentials of a source are retrieved and what calls are
// served: the sections Renewal and Trouble of the package page, but for what only a
// caller knows, its context. It has no clock, goroutine, lock or random number. A
// renewer tells it the time and what happens.
//
// The words: a source fails, by an outage or otherwise; what it brings is taken, or
// not, which is a failure as well; Bedrock denies credentials.
type policy struct {
	held   aws.Credentials // what calls are served. None at first. Kept when they have expired
	denied bool            // whether Bedrock has denied held
	bridge time.Time       // until when held is served, expired or not; zero except after an outage

	due     time.Time     // when the next retrieval is to begin; far off while one is under way
	pause   time.Duration // before due, if the last retrieval failed while calls are served
	began   time.Time     // when the last retrieval began
	settled time.Time     // when the last retrieval that has ended did
}

// underWay reports whether the last retrieval has not ended.
func (p *policy) underWay() bool { return p.settled.Before(p.began) }

// begin reports whether a retrieval is due. If so, it is under way from now on.
func (p *policy) begin(now time.Time) bool {
	// By either clock: the monotonic one stops while a machine is suspended, and the
	// wall clock may be set back.
	if now.Before(p.due) && wallClock(now).Before(wallClock(p.due)) {
		return false
	}
	p.due, p.began = now.Add(forever), now
	return true
}

// call returns what a call is served, and how long it waits before that for the
// retrieval under way: forever if there is nothing to serve. If none is under way,
// there is nothing to wait for.
func (p *policy) call(now time.Time) (serve aws.Credentials, wait time.Duration) {
	serve = p.held
	left, bridged := timeLeft(p.held, now), !p.bridge.IsZero()
	if bridged {
		// The last one is for a retrieval under way, which the bridge has to outlast.
		serve.Expires = wallClock(now).Add(max(left, p.bridge.Sub(now), bridgeMargin-now.Sub(p.began)))
	}
	switch {
	case left > lastMinute, bridged && now.Before(p.bridge):
		return serve, 0
	case left > 0, bridged: // the bridge has come to its end because nobody called
		return serve, p.began.Add(lastWait).Sub(now)
	default:
		return serve, forever
	}
}

// settle records what the retrieval under way brought: credentials, or an error. It
// returns nil if they are taken, or else why they are not, which is for the handler
// if calls are served, and otherwise for the callers. The jitter is from 0 to 4
// seconds.
func (p *policy) settle(now time.Time, fresh aws.Credentials, err error, jitter time.Duration) error {
	expired := err == nil && timeLeft(fresh, now) < time.Second
	if expired && !p.held.HasKeys() && fresh.Source == ec2rolecreds.ProviderName {
		p.held = fresh // which are bridged: EC2 gives expired ones in an outage of its own
	}
	switch {
	case expired:
		err = expiredError(fresh)
	case err == nil:
		err = p.notTaken(now, fresh)
	case !p.held.HasKeys():
		err = orNoneFound(err)
	}
	bridged := isOutage(err) && traitsOf(p.held.Source).bridged

	var wait time.Duration // until the next retrieval
	switch {
	case err == nil:
		p.denied = p.denied && sameKeys(fresh, p.held)
		p.held, p.pause = fresh, 0
		wait = max(untilWindow(fresh, now), minPause)
	case timeLeft(p.held, now) > 0 || bridged: // calls are served
		p.pause = min(max(2*p.pause, minPause), maxPause)
		wait = p.pause
	default: // there is nothing to serve
		p.pause = 0
		wait = time.Second + jitter // or each call would ask the source
	}
	if left := timeLeft(p.held, now); 0 < left && left < wait {
		p.pause, wait = 0, left // the pause begins anew at the end of held
	}
	p.due, p.settled, p.bridge = now.Add(wait), now, time.Time{}
	if bridged {
		p.bridge = wallClock(p.due.Add(bridgeMargin))
	}
	return err
}

// notTaken returns why fresh, which has not expired, does not replace held, or nil.
func (p *policy) notTaken(now time.Time, fresh aws.Credentials) error {
	left, freshLeft := timeLeft(p.held, now), timeLeft(fresh, now)
	switch {
	case p.held.HasKeys() && fresh.Source != p.held.Source && traitsOf(fresh.Source).host:
		return unusableError("the source now gives those of " + fresh.Source + ", which is another identity: a restart uses them")
	case left <= 0, p.denied, sameKeys(fresh, p.held):
		return nil
	case freshLeft >= left, !p.held.CanExpire && freshLeft > lastMinute:
		return nil
	}
	return unusableError("the source gives others that expire sooner, at " + fresh.Expires.Format(time.RFC3339))
}

// deny records that Bedrock answered 401 or 403 to a token that creds signed.
func (p *policy) deny(now time.Time, creds aws.Credentials) {
	if !sameKeys(creds, p.held) {
		return
	}
	p.denied = true
	wait := max(0, denialPause-now.Sub(p.settled))
	if !p.underWay() && traitsOf(p.held.Source).unattended && now.Add(wait).Before(p.due) {
		p.due = now.Add(wait)
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
		return left - max(min(5*time.Minute, left/2), minWindow)
	case left < 90*time.Minute:
		return left - 15*time.Minute
	default:
		return left - time.Hour
	}
}

// What holds for a source of credentials.
type traits struct {
	host       bool // it is the machine or container, which the SDK falls back to without its files
	bridged    bool // in its outage, credentials are served after they have expired
	unattended bool // it prompts nobody, so that it can be asked when Bedrock denies
}

func traitsOf(source string) traits {
	switch source {
	case ec2rolecreds.ProviderName, endpointcreds.ProviderName:
		return traits{host: true, bridged: true, unattended: true}
	case stscreds.ProviderName, stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName:
		return traits{bridged: true, unattended: true}
	}
	keys := source == config.CredentialsSourceName || strings.HasPrefix(source, "SharedConfigCredentials: ")
	return traits{unattended: keys} // else a credential_process, or a source of the user's own
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
