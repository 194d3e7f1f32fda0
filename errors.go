package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

// Errors returned by this package, wrapped with details. Test for them with
// [errors.Is].
var (
	// ErrRegion is returned if there is no region, if it cannot be the name of one,
	// or if a request is for Bedrock in another region.
	ErrRegion = errors.New("bedrocktoken: invalid region")

	// ErrCredentials is returned if there are no credentials, if they are incomplete,
	// malformed or expired, if their source failed or did not answer, or if the AWS
	// config cannot be loaded. The source's own error is wrapped.
	ErrCredentials = errors.New("bedrocktoken: no valid credentials")

	// ErrExpiry is returned if the expiry is less than 1 second or more than 12 hours.
	ErrExpiry = errors.New("bedrocktoken: invalid expiry")

	// ErrEndpoint is returned by the RoundTripper of [Provider.Transport] for a
	// request to a host that must not receive a token.
	ErrEndpoint = errors.New("bedrocktoken: not an endpoint of Bedrock")
)

// A credentialsError is [ErrCredentials] with the error of a source or of the SDK,
// whose text is bounded.
type credentialsError struct {
	text  string
	cause error
}

func (e *credentialsError) Error() string   { return e.text }
func (e *credentialsError) Unwrap() []error { return []error{ErrCredentials, e.cause} }

// refreshFailed is how the SDK's cache begins an error. Programs look for it to
// learn that a person has to sign in, so it stands once in every source's error.
const refreshFailed = "failed to refresh cached credentials, "

// sourceError returns an ErrCredentials with the error of a source of credentials,
// after a prefix of our own.
func sourceError(prefix string, err error) (wrapped error) {
	defer func() {
		if recover() != nil { // a method of err panicked
			wrapped = fmt.Errorf("%w: %s%sthe source's error, a %T, has no text", ErrCredentials, prefix, refreshFailed, err)
		}
	}()
	text := err.Error()
	var process *processcreds.ProviderError
	if errors.As(err, &process) && process != nil {
		// Its text may quote the process's output, keys included. The innermost
		// error does not.
		for err = process; errors.Unwrap(err) != nil; {
			err = errors.Unwrap(err)
		}
		text = "credential_process: " + err.Error()
	}
	text = refreshFailed + strings.ReplaceAll(text, refreshFailed, "")
	return &credentialsError{fmt.Sprintf("%v: %s%s", ErrCredentials, prefix, bounded(text)), err}
}

// renewalError returns what a handler of renewal errors is told.
func renewalError(served aws.Credentials, err error) error {
	until := "the held credentials, which do not expire, are still used: "
	if served.CanExpire {
		until = "the held credentials are used until " + served.Expires.Format(time.RFC3339) + ": "
	}
	return sourceError(until, err)
}

// configError returns an ErrCredentials for a config that cannot be loaded.
func configError(err error) error {
	return &credentialsError{"bedrocktoken: cannot load the AWS config: " + bounded(err.Error()), err}
}

// bounded returns at most 500 bytes of text, without control characters.
func bounded(text string) string {
	const limit, more = 500, "..."
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit-len(more)], "") + more
	}
	return text
}

func contextError(ctx context.Context) error {
	if ctx == nil {
		return errors.New("bedrocktoken: the context is nil")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bedrocktoken: %w", err)
	}
	return nil
}
