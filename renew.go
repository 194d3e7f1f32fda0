package bedrocktoken

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// cached returns a provider that caches the credentials of source, or source itself
// if there is nothing to renew.
func cached(source aws.CredentialsProvider, handle func(error)) aws.CredentialsProvider {
	if static, ok := source.(credentials.StaticCredentialsProvider); ok && !static.Value.CanExpire {
		return source
	}
	return &renewer{source: source, handle: handle}
}

// A renewer is an [aws.CredentialsProvider] that caches the credentials of source.
// Its policy decides; the renewer runs one retrieval at a time, in the background,
// and lets calls wait for it.
type renewer struct {
	source aws.CredentialsProvider
	handle func(error) // may be nil

	mu     sync.Mutex
	policy policy
	last   *retrieval
}

// A retrieval is one call of the source.
type retrieval struct {
	done chan struct{} // closed once the rest is set

	// What those who wait get.
	credentials aws.Credentials
	err         error
}

func (r *renewer) Retrieve(ctx context.Context) (aws.Credentials, error) {
	r.mu.Lock()
	now := time.Now()
	r.retrieveIfDue(now)
	serve, wait := r.policy.call(now)
	last := r.last
	r.mu.Unlock()

	if deadline, ok := ctx.Deadline(); ok && wait < forever {
		wait = min(wait, deadline.Sub(now)/2) // the rest is for the caller's own request
	}
	if wait <= 0 {
		return serve, nil
	}
	waited := time.NewTimer(wait)
	defer waited.Stop()
	for {
		select {
		case <-last.done:
			return last.credentials, last.err
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		case <-waited.C:
			if timeLeft(serve, time.Now()) > 0 {
				return serve, nil
			}
		}
	}
}

// deny says that Bedrock answered 401 or 403 to a token that creds signed. It starts
// the retrieval that is due then.
func (r *renewer) deny(creds aws.Credentials) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.policy.deny(now, creds)
	r.retrieveIfDue(now)
}

// retrieveIfDue starts a retrieval if the policy has it, with the context of no
// caller. r.mu must be held.
func (r *renewer) retrieveIfDue(now time.Time) {
	if !r.policy.isDue(now) {
		return
	}
	r.policy.begin(now)
	this := &retrieval{done: make(chan struct{})}
	r.last = this
	go func() {
		fresh, err := ask(r.source)
		r.mu.Lock()
		now := time.Now()
		err = r.policy.settle(now, fresh, err, rand.N(4*time.Second))
		serve, wait := r.policy.call(now)
		r.mu.Unlock()

		if wait < forever { // calls are served
			this.credentials = serve
		} else {
			this.err = err
		}
		close(this.done)
		if wait < forever && err != nil && r.handle != nil {
			r.handle(renewalError(serve, err))
		}
	}()
}

// retrievalLimit is how long a source may take.
const retrievalLimit = time.Minute

// ask retrieves credentials from source.
func ask(source aws.CredentialsProvider) (aws.Credentials, error) {
	const late, moment = time.Second, 5 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	creds, err := aws.Credentials{}, error(errNoAnswer) // if the source ends its goroutine
	began, answered := time.Now(), make(chan struct{})
	go func() { // which outlives ask if source ignores its context
		defer close(answered)
		creds, err = askNow(ctx, source)
	}()
	for patience := retrievalLimit; ; patience = moment {
		select {
		case <-answered:
			return creds, err
		case <-time.After(patience):
		}
		if patience == moment || time.Since(began) < retrievalLimit+late {
			return aws.Credentials{}, errNoAnswer
		}
		// The process was stopped, and the answer may lie in a socket, unread.
	}
}

// askNow calls source. A panic becomes an error, because no caller could recover it
// in this goroutine.
func askNow(ctx context.Context, source aws.CredentialsProvider) (creds aws.Credentials, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			creds, err = aws.Credentials{}, fmt.Errorf("the source of the credentials panicked, or its error, a %T: %v", err, cause)
		}
	}()
	if creds, err = source.Retrieve(ctx); err != nil {
		_, _ = sourceError("", err), orNoneFound(err) // the methods of err may panic, too
		return aws.Credentials{}, err
	}
	creds.Expires = wallClock(creds.Expires)
	left := timeLeft(creds, time.Now())
	if _, ok := source.(*aws.CredentialsCache); ok && -time.Hour < left && left < time.Second {
		// A cache says that they expire sooner than they do, by its expiry window.
		creds.Expires = wallClock(time.Now().Add(2 * time.Minute))
	}
	return creds, checkKeys(creds)
}
