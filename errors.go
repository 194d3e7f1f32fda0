package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

// The errors of this package, for [errors.Is]. Each is returned with a text that
// says what is wrong.
var (
	// ErrRegion is returned if there is no region, it is not the name of one, or
	// a request is for Bedrock in another region.
	ErrRegion = errors.New("bedrocktoken: invalid region")

	// ErrCredentials is returned if there are no credentials, they lack a key,
	// are malformed or have expired, or if their source failed or did not answer.
	// The source's own error is wrapped.
	ErrCredentials = errors.New("bedrocktoken: no valid credentials")

	// ErrExpiry is returned if the expiry is not from 1 second to 12 hours.
	ErrExpiry = errors.New("bedrocktoken: invalid expiry")

	// ErrEndpoint is returned if [Provider.Transport] does not send to the address
	// of a request.
	ErrEndpoint = errors.New("bedrocktoken: not an endpoint of Bedrock")
)

// A foreignError is one of the errors above that somebody else's error caused.
type foreignError struct {
	kind  error
	text  string
	cause error
}

func (e *foreignError) Error() string   { return e.text }
func (e *foreignError) Unwrap() []error { return []error{e.kind, e.cause} }

// credentialsError returns ErrCredentials caused by err.
func credentialsError(err error) error {
	// The SDK's caches say it one behind the other. Once is enough for programs
	// that look for it to learn that a person has to sign in again.
	const refresh = "failed to refresh cached credentials, "
	if isNil(err) {
		err = fmt.Errorf("the source's error is a nil %T", err)
	}
	text := err.Error()
	before, after, refreshed := strings.Cut(text, refresh)

	var process *processcreds.ProviderError
	if errors.As(err, &process) && process != nil {
		// Its text, and that of some errors in it, can quote the output of the
		// process, with the keys in it.
		for err = process; errors.Unwrap(err) != nil; {
			err = errors.Unwrap(err)
		}
		before, after = "", "credential_process: "+err.Error()
		text = after
	}
	if refreshed {
		text = before + refresh + strings.ReplaceAll(after, refresh, "")
	}
	return &foreignError{ErrCredentials, fmt.Sprintf("%v: %s", ErrCredentials, bounded(text)), err}
}

// configError returns an error of the given kind for a config that cannot be loaded.
func configError(kind, err error) error {
	return &foreignError{kind, "bedrocktoken: cannot load the AWS config: " + bounded(err.Error()), err}
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
