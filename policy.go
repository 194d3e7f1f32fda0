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
	lastMinute   = time.Minute      // of the held credentials, in which calls wait for a renewal,
	maxWait      = time.Second      // but not longer than until this time after it began
	recheckAfter = 5 * time.Minute  // for credentials without an expiry
	minPause     = 10 * time.Second // after a fruitless retrieval, and doubled each time
	maxPause     = 5 * time.Minute
	bridgeMargin = 2 * time.Minute // from the next retrieval, which takes up to a minute, to the end of the bridge
	refusedPause = time.Minute     // between a retrieval and one that a refusal by Bedrock asks for
	forever      = time.Duration(1<<63 - 1)
)

// A policy decides when the credentials of a source are retrieved and which of them
// calls are served: the sections "Renewal" and "Trouble" of the package page. It has
// no clock, goroutine, lock or random number. A renewer tells it what happens, and
// when: a retrieval begins, and is settled; call says what a call is served
// meanwhile.
type policy struct {
	held    aws.Credentials // what calls are served; none at first, and kept after its end
	refused bool            // whether Bedrock refused held
	bridge  time.Time       // in an outage, until when held is served even if it has ended; else zero

	due   time.Time     // when the next retrieval is; far off while one is under way
	pause time.Duration // before it, if the last one was fruitless
	began time.Time     // the last retrieval,
	ended time.Time     // which is under way while this is before began
}

// begin reports whether a retrieval is due. If so, it is under way from now on.
func (p *policy) begin(now time.Time) bool {
	// The monotonic clock stops while a machine is suspended, and the wall clock may
	// be set back: either will do.
	if now.Before(p.due) && wallClock(now).Before(wallClock(p.due)) {
		return false
	}
	p.due, p.began = now.Add(forever), now
	return true
}

// call returns what a call is served, and how long it waits before that for the
// retrieval under way: forever if there is nothing to serve.
func (p *policy) call(now time.Time) (serve aws.Credentials, wait time.Duration) {
	serve = p.held
	left, bridged := timeLeft(p.held, now), !p.bridge.IsZero()
	if bridged {
		// The retrieval under way ends by the monotonic clock.
		underWay := bridgeMargin - now.Sub(p.began)
		serve.Expires = wallClock(now).Add(max(left, p.bridge.Sub(now), underWay))
	}
	switch {
	case left > lastMinute, bridged && now.Before(p.bridge):
		return serve, 0
	case left > 0, bridged: // nobody has called until the bridge's end
		return serve, p.began.Add(maxWait).Sub(now)
	default:
		return serve, forever
	}
}

// settle records what a retrieval brought: credentials, or an error. It returns why
// the credentials were not taken, if so. That is for the callers if there is nothing
// to serve, and otherwise for the handler. The jitter is from 0 to 4 seconds.
func (p *policy) settle(now time.Time, fresh aws.Credentials, err error, jitter time.Duration) (problem error) {
	switch {
	case err != nil && !p.held.HasKeys():
		err = orNoneFound(err)
	case err == nil && timeLeft(fresh, now) < time.Second:
		err = expiredError(fresh)
		if !p.held.HasKeys() && fresh.Source == ec2rolecreds.ProviderName {
			p.held = fresh // the metadata service is out of order: Bedrock decides
		}
	case err == nil:
		err = p.reject(fresh, now)
	}
	outage := isOutage(err) && bridges(p.held.Source)

	var wait time.Duration
	switch {
	case err == nil:
		p.refused = p.refused && sameKeys(fresh, p.held)
		p.held, p.pause = fresh, 0
		wait = max(untilWindow(fresh, now), minPause)
	case timeLeft(p.held, now) > 0, outage:
		p.pause = min(max(2*p.pause, minPause), maxPause)
		wait = p.pause
	default:
		p.pause = 0
		wait = time.Second + jitter // else each call would ask a source that refuses
	}
	if left := timeLeft(p.held, now); 0 < left && left < wait {
		p.pause, wait = 0, left // whatever comes at the end begins anew
	}
	p.due, p.ended, p.bridge = now.Add(wait), now, time.Time{}
	if outage {
		p.bridge = wallClock(p.due.Add(bridgeMargin))
	}
	return err
}

// reject returns why fresh, which has not ended, does not replace what is held, or
// nil.
func (p *policy) reject(fresh aws.Credentials, now time.Time) error {
	held := p.held
	left := timeLeft(held, now)
	switch {
	case held.HasKeys() && fresh.Source != held.Source && ofHost(fresh.Source):
		// Without its files the SDK falls back to the role of the host.
		return unusableError("the source now gives those of " + fresh.Source + ", which is another identity: a restart uses them")
	case left <= 0, p.refused, sameKeys(fresh, held), timeLeft(fresh, now) >= left,
		!held.CanExpire && timeLeft(fresh, now) > lastMinute:
		return nil
	}
	return unusableError("the source gives others that expire sooner, at " + fresh.Expires.Format(time.RFC3339))
}

// refuse records that Bedrock refused creds.
func (p *policy) refuse(now time.Time, creds aws.Credentials) {
	if !sameKeys(creds, p.held) {
		return
	}
	p.refused = true
	underWay := p.ended.Before(p.began)
	soon := now.Add(max(0, refusedPause-now.Sub(p.ended)))
	if !underWay && asksNobody(p.held.Source) && soon.Before(p.due) {
		p.due = soon
	}
}

// untilWindow returns how long it is until the advisory window of fresh, or until
// its source is asked again if it has no expiry.
func untilWindow(fresh aws.Credentials, now time.Time) time.Duration {
	switch left := timeLeft(fresh, now); {
	case !fresh.CanExpire && fresh.Source == processcreds.ProviderName:
		return forever // it may prompt
	case !fresh.CanExpire:
		return recheckAfter // a tool may replace the keys
	case left <= 20*time.Minute:
		return left - max(min(5*time.Minute, left/2), lastMinute)
	case left < 90*time.Minute:
		return left - 15*time.Minute
	default:
		return left - time.Hour
	}
}

// ofHost reports whether source gives the role of the machine or container that the
// program runs on.
func ofHost(source string) bool {
	return source == ec2rolecreds.ProviderName || source == endpointcreds.ProviderName
}

// bridges reports whether credentials of source are served in its outage after they
// have ended. AWS calls it static stability.
func bridges(source string) bool {
	switch source {
	case stscreds.ProviderName, stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName:
		return true
	}
	return ofHost(source)
}

// asksNobody reports whether source cannot prompt a person for a code or a
// fingerprint, as a credential_process may, or a source of the user's own.
func asksNobody(source string) bool {
	return bridges(source) || source == config.CredentialsSourceName || strings.HasPrefix(source, "SharedConfigCredentials: ")
}

// timeLeft returns how long it is until creds end. They are good if that is positive.
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
