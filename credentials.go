package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

const (
	// How long before their end credentials are renewed: a twelfth of their
	// life, which is 5 minutes of an hour, within these bounds.
	minLead = time.Minute
	maxLead = 5 * time.Minute

	// How long callers wait for a renewal while the credentials held still work.
	renewalWait = 3 * time.Second

	// The pause after a renewal that failed or hung, or that brought credentials
	// which are due for renewal themselves.
	retryPause = 10 * time.Second

	// How long a retrieval may take before it is abandoned, so that the source
	// can be asked again.
	retrievalTimeout = 2 * time.Minute
)

// cached returns a function that any number of callers may share. It is a
// function because fmt prints what anything else holds.
func cached(source aws.CredentialsProvider) aws.CredentialsProviderFunc {
	switch source.(type) {
	case *aws.CredentialsCache, credentials.StaticCredentialsProvider:
		return source.Retrieve
	}
	r := &renewer{source: source}
	r.cache = aws.NewCredentialsCache(aws.CredentialsProviderFunc(r.renew))
	return r.retrieve
}

// uncached returns the provider that chain is wrapped around.
func uncached(chain *aws.CredentialsCache) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		chain.Invalidate()
		return chain.Retrieve(ctx)
	})
}

// A renewer caches the credentials of source and renews them ahead of their
// end; while that fails or hangs, it goes on with those that it holds.
//
// The SDK's cache sees to it that there is one retrieval at a time, which callers
// may leave. It cannot do the rest: its ExpiryWindow hides when credentials end,
// and is subtracted once more when a renewal fails. So what it takes for the end
// is the time of the next renewal, and the credentials as they are lie in held.
type renewer struct {
	source aws.CredentialsProvider
	cache  *aws.CredentialsCache
	held   atomic.Pointer[heldCredentials]
}

type heldCredentials struct {
	aws.Credentials
	renewal time.Time // if CanExpire
}

func (h *heldCredentials) serve() bool { return h != nil && !h.Expired() }

func (r *renewer) retrieve(ctx context.Context) (aws.Credentials, error) {
	held := r.held.Load()
	wait := ctx
	if held.serve() {
		if !held.CanExpire || time.Now().Before(held.renewal) {
			return held.Credentials, nil
		}
		limit := renewalWait
		if deadline, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(deadline)/2) // the rest is for what the token is for
		}
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	_, err := r.cache.Retrieve(wait)
	switch {
	case err == nil:
		return r.held.Load().Credentials, nil
	case wait.Err() == nil || ctx.Err() != nil:
		return aws.Credentials{}, err
	}
	// The renewal goes on in the background, and for a while nobody waits for it.
	// It may also have ended in this very moment, hence not simply Store.
	r.held.CompareAndSwap(held, &heldCredentials{held.Credentials, time.Now().Add(retryPause)})
	return r.retrieve(ctx)
}

// renew returns credentials whose Expires is the time to renew them.
func (r *renewer) renew(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, retrievalTimeout)
	defer cancel()
	creds, err := r.source.Retrieve(ctx)
	if err == nil {
		err = checkCredentials(creds, time.Now())
	}
	if err != nil {
		held := r.held.Load()
		if !held.serve() {
			return aws.Credentials{}, err
		}
		creds = held.Credentials
	}

	creds.Expires = creds.Expires.Round(0) // the wall clock's, as in checkCredentials
	now := time.Now().Round(0)
	lead := min(max(creds.Expires.Sub(now)/12, minLead), maxLead)
	renewal := creds.Expires.Add(-lead)
	if err != nil || !renewal.After(now) {
		renewal = now.Add(retryPause)
	}
	r.held.Store(&heldCredentials{creds, renewal})
	if renewal.Before(creds.Expires) {
		creds.Expires = renewal
	}
	return creds, nil
}

// checkCredentials tells why creds cannot sign a token that works, in words
// that show nothing of them. The signer would take any.
func checkCredentials(creds aws.Credentials, now time.Time) error {
	switch {
	case creds.AccessKeyID == "" && creds.SecretAccessKey == "":
		return errors.New("both access key ID and secret access key are missing")
	case creds.AccessKeyID == "":
		return errors.New("the access key ID is missing")
	case creds.SecretAccessKey == "":
		return errors.New("the secret access key is missing")
	case creds.CanExpire && !now.Round(0).Before(creds.Expires): // by the wall clock, which a suspended machine does not stop
		return fmt.Errorf("the credentials expired at %s", creds.Expires.UTC().Format(time.RFC3339))
	}
	for _, field := range [...]struct{ name, value string }{
		{"access key ID", creds.AccessKeyID},
		{"secret access key", creds.SecretAccessKey},
		{"session token", creds.SessionToken},
	} {
		for i := range len(field.value) {
			if c := field.value[i]; c <= ' ' || c >= 0x7f {
				return fmt.Errorf("the %s contains a space, a line break or another character that cannot be part of it", field.name)
			}
		}
	}
	return nil
}

// A credentialsError is [ErrCredentials] with its cause.
type credentialsError struct{ cause error }

func (e credentialsError) Unwrap() []error { return []error{ErrCredentials, e.cause} }

func (e credentialsError) Error() string {
	var process *processcreds.ProviderError
	if errors.As(e.cause, &process) && process != nil {
		// Its text can quote the output of the process, with the keys in it.
		innermost := process.Err
		for errors.Unwrap(innermost) != nil {
			innermost = errors.Unwrap(innermost)
		}
		return fmt.Sprintf("%v: credential_process: %v", ErrCredentials, innermost)
	}
	// The SDK's caches say this of the first retrieval too, one behind the other.
	cause := strings.ReplaceAll(e.cause.Error(), "failed to refresh cached credentials, ", "")
	return fmt.Sprintf("%v: %s", ErrCredentials, cause)
}
