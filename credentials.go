package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

const (
	// Credentials are renewed in the last twelfth of their life, within these
	// bounds. In the last minute callers wait for the renewal, but not longer
	// than for a second after it began.
	maxLead     = 5 * time.Minute
	minLead     = time.Minute
	renewalWait = time.Second

	// Credentials that do not expire are looked up again after this time.
	recheckAfter = 5 * time.Minute

	// A retrieval that has not ended after this time is given up.
	retrievalLimit = time.Minute

	// The pause after a retrieval that was given up or brought nothing better
	// than what is held.
	retryPause = 10 * time.Second

	never = time.Duration(1<<63 - 1)
)

var errNoAnswer = errors.New("the source of the credentials did not answer within a minute")

// A retrieveFunc returns credentials and the time to sign with them. To look at
// the clock once more would cost as much as all else that a call does.
type retrieveFunc func(context.Context) (aws.Credentials, time.Time, error)

// shared returns a function that hands out the credentials of source to any
// number of callers.
func shared(source aws.CredentialsProvider) retrieveFunc {
	asItIs := func(ctx context.Context) (aws.Credentials, time.Time, error) {
		creds, err := source.Retrieve(ctx)
		return creds, time.Now(), err
	}
	switch source := source.(type) {
	case *aws.CredentialsCache:
		return asItIs
	case credentials.StaticCredentialsProvider:
		if !source.Value.CanExpire {
			return asItIs
		}
	}
	return (&renewer{source: source}).retrieve
}

// A renewer holds the credentials of a source and renews them. There is one
// retrieval at a time. A caller who finds that it is time begins it, and it runs in
// the background: retrieve says who waits for it, begin sees to it that it ends,
// settle says what is held afterwards and when the source is asked again.
type renewer struct {
	source aws.CredentialsProvider

	mu   sync.Mutex
	held aws.Credentials // none at first
	next time.Time       // when to begin the next retrieval
	last *retrieval      // under way or ended
}

type retrieval struct {
	began time.Time
	ended chan struct{} // closed once the rest is set

	// What callers who waited get: what is held if it is live, else an error.
	credentials aws.Credentials
	err         error
}

func (r *renewer) retrieve(ctx context.Context) (aws.Credentials, time.Time, error) {
	r.mu.Lock()
	now := time.Now()
	// It is also time once what the last one left has expired, be it that the wall
	// clock has jumped ahead of next.
	if !now.Before(r.next) || r.last.credentials.HasKeys() && !live(r.held, now) {
		r.begin(now)
	}
	held, last := r.held, r.last
	r.mu.Unlock()

	if live(held, now) {
		if !held.CanExpire || held.Expires.Sub(now) > minLead {
			return held, now, nil
		}
		wait := last.began.Add(renewalWait).Sub(now)
		if deadline, ok := ctx.Deadline(); ok {
			wait = min(wait, deadline.Sub(now)/2) // the rest is for what the token is for
		}
		if wait <= 0 {
			return held, now, nil
		}
		select {
		case <-last.ended:
			return last.credentials, time.Now(), last.err
		case <-ctx.Done():
			return aws.Credentials{}, now, ctx.Err()
		case <-time.After(wait):
			now = time.Now()
			if live(held, now) {
				return held, now, nil
			}
		}
	}
	select {
	case <-last.ended:
		return last.credentials, time.Now(), last.err
	case <-ctx.Done():
		return aws.Credentials{}, now, ctx.Err()
	}
}

// begin begins a retrieval, with r.mu held. It belongs to no caller: none can
// end it, and none is kept by it.
func (r *renewer) begin(now time.Time) {
	this := &retrieval{began: now, ended: make(chan struct{})}
	r.last, r.next = this, now.Add(never)
	ctx, cancel := context.WithCancel(context.Background())
	limit := time.AfterFunc(retrievalLimit, func() {
		r.settle(this, aws.Credentials{}, errNoAnswer)
		cancel()
	})
	go func() {
		var creds aws.Credentials
		err := errors.New("the source of the credentials ended its goroutine")
		defer func() {
			// No caller could recover from a panic here, nor is it worth the program.
			if cause := recover(); cause != nil {
				err = fmt.Errorf("the source of the credentials panicked: %v", cause)
			}
			r.settle(this, creds, err)
			limit.Stop()
			cancel()
		}()
		creds, err = r.source.Retrieve(ctx)
	}()
}

// settle ends a retrieval, unless it has been given up before.
func (r *renewer) settle(this *retrieval, fresh aws.Credentials, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-this.ended:
		return
	default:
	}
	defer close(this.ended)

	now := time.Now()
	fresh.Expires = fresh.Expires.Round(0).UTC() // the wall clock's, which a suspended machine does not stop
	if err == nil {
		err = checkKeys(fresh)
	}
	if err == nil && !live(fresh, now) {
		err = fmt.Errorf("the credentials expired at %s", fresh.Expires.Format(time.RFC3339))
	}
	renewed := err == nil && (!live(r.held, now) || better(fresh, r.held, now))
	if renewed {
		r.held = fresh
	}

	r.next = now.Add(retryPause)
	switch {
	case renewed && fresh.CanExpire:
		lead := min(max(fresh.Expires.Sub(now)/12, minLead), maxLead)
		if due := fresh.Expires.Add(-lead); due.After(now) {
			r.next = due
		}
	case renewed && fresh.Source == processcreds.ProviderName:
		r.next = now.Add(never) // it may ask a person
	case renewed:
		r.next = now.Add(recheckAfter)
	case !live(r.held, now):
		this.err = err
		if err != errNoAnswer {
			r.next = now
		}
		return
	}
	this.credentials = r.held
}

func live(creds aws.Credentials, now time.Time) bool {
	return creds.HasKeys() && (!creds.CanExpire || now.Before(creds.Expires))
}

// better reports whether fresh should replace held, which is live.
func better(fresh, held aws.Credentials, now time.Time) bool {
	switch {
	case fresh.Source != held.Source && (fresh.Source == ec2rolecreds.ProviderName || fresh.Source == endpointcreds.ProviderName):
		return false // where a file is missing the SDK falls back on the host's role, another identity
	case !fresh.CanExpire:
		return true
	case !held.CanExpire: // as far as is known
		return fresh.Expires.Sub(now) > minLead
	default:
		return fresh != held && !fresh.Expires.Before(held.Expires)
	}
}

// checkKeys tells why creds cannot sign a token that works, in words that show
// nothing of them. The signer would take any.
func checkKeys(creds aws.Credentials) error {
	switch {
	case creds.AccessKeyID == "" && creds.SecretAccessKey == "":
		return errors.New("both access key ID and secret access key are missing")
	case creds.AccessKeyID == "":
		return errors.New("the access key ID is missing")
	case creds.SecretAccessKey == "":
		return errors.New("the secret access key is missing")
	}
	for _, field := range [...]struct{ name, value string }{
		{"access key ID", creds.AccessKeyID},
		{"secret access key", creds.SecretAccessKey},
		{"session token", creds.SessionToken},
	} {
		for i := range len(field.value) {
			if field.value[i]-'!' > '~'-'!' { // in one comparison: not from ! to ~
				return fmt.Errorf("the %s contains a space, a line break or another character that cannot be part of it", field.name)
			}
		}
	}
	return nil
}
