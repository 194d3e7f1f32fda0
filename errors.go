package bedrocktoken

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go"
)

// Errors returned by this package, wrapped with details. Test for them with
// [errors.Is]. The package adds no secret to what a source's own error says.
var (
	// ErrRegion is returned if the region is missing or malformed, or if a request is
	// for Bedrock in another one.
	ErrRegion = errors.New("bedrocktoken: invalid region")

	// ErrCredentials is returned if there are no credentials, if they are incomplete,
	// malformed or expired, if their source failed, or if the AWS config cannot be
	// loaded, for example because there is no such profile. The source's own error is
	// wrapped.
	ErrCredentials = errors.New("bedrocktoken: no valid credentials")

	// An error that matches ErrOutage matches ErrCredentials, too. The source is in an
	// outage: trying again may help.
	ErrOutage = errors.New("bedrocktoken: outage of the source of the credentials")

	// ErrExpiry is returned if the expiry is less than 1 second or more than 12 hours.
	ErrExpiry = errors.New("bedrocktoken: invalid expiry")

	// ErrEndpoint is returned by the RoundTripper of [Provider.Transport] for a
	// request that must not carry a token.
	ErrEndpoint = errors.New("bedrocktoken: not an endpoint of Bedrock")
)

// A credentialsError is [ErrCredentials] with the error of a source or of the SDK,
// whose text is bounded.
type credentialsError struct {
	text  string
	wraps []error
}

func (e *credentialsError) Error() string   { return e.text }
func (e *credentialsError) Unwrap() []error { return e.wraps }

// A notTakenError says why credentials that a source gave are not used.
type notTakenError string

func (e notTakenError) Error() string { return string(e) }

func anotherIdentity(creds aws.Credentials) error {
	return notTakenError("the source now gives those of " + creds.Source + ", which is another identity: a restart uses them")
}

// refreshFailed is how the SDK's cache begins an error. It stands once in the error
// of each source: programs such as charmbracelet's fantasy take it for a missing
// sign-in.
const refreshFailed = "failed to refresh cached credentials, "

// sourceError returns an ErrCredentials with an error that a retrieval ended with,
// after a prefix of our own.
func sourceError(prefix string, err error) error {
	if notTaken, ok := err.(notTakenError); ok {
		return fmt.Errorf("%w: %s%w", ErrCredentials, prefix, notTaken)
	}
	kinds := []error{ErrCredentials}
	if isOutage(err) {
		kinds = append(kinds, ErrOutage)
	}
	text := err.Error()
	var process *processcreds.ProviderError
	if errors.As(err, &process) {
		// Its text may quote the process's output, keys included. The innermost
		// error quotes no key.
		for err = process; errors.Unwrap(err) != nil; {
			err = errors.Unwrap(err)
		}
		text = "credential_process: " + err.Error()
	}
	text = refreshFailed + strings.ReplaceAll(text, refreshFailed, "")
	return &credentialsError{fmt.Sprintf("%v: %s%s", ErrCredentials, prefix, bounded(text)), append(kinds, err)}
}

// renewalError returns what a handler of renewal errors is told.
func renewalError(served aws.Credentials, err error) error {
	until := "the held credentials, which do not expire, are still used: "
	if served.CanExpire {
		until = "the held credentials are used until " + served.Expires.Format(time.RFC3339) + ": "
	}
	return sourceError(until, err)
}

// bounded returns at most 500 bytes of text, without control characters.
func bounded(text string) string {
	const limit, more = 500, "..."
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\ufffd"), func(r rune) bool { return !unicode.IsPrint(r) }), " ")
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

// isOutage reports whether err, which a retrieval ended with, is an outage of the
// source: it gave no answer or half of one, it is overloaded or out of order, or its
// credentials have expired although they are bridged. After any other error a person
// may have to act.
func isOutage(err error) bool {
	switch {
	case errors.Is(err, ErrOutage):
		return true
	case errors.Is(err, errNoneFound):
		return false
	}
	var (
		unsent  interface{ ConnectionError() bool } // the SDK's error for a request without an answer
		network net.Error                           // context.DeadlineExceeded is one
		// What the error about a missing file wraps, a syscall.Errno, is a net.Error too.
		aboutFile = errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError))
	)
	return overloaded(err) ||
		errors.As(err, &unsent) && unsent.ConnectionError() ||
		errors.As(err, &network) && !aboutFile ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// overloaded reports whether err is an answer with status 429 or 5xx, or with a code
// by which AWS's services ask to try again.
func overloaded(err error) bool {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		status := answer.HTTPStatusCode()
		if status == http.StatusTooManyRequests || status >= 500 && status <= 599 {
			return true
		}
	}
	var refusal smithy.APIError
	if !errors.As(err, &refusal) {
		return false
	}
	_, throttled := retry.DefaultThrottleErrorCodes[refusal.ErrorCode()]
	return throttled || refusal.ErrorCode() == "IDPCommunicationError" // STS could not reach the identity provider
}

// An outageError is an error of this package that is an outage.
type outageError string

func (e outageError) Error() string        { return string(e) }
func (e outageError) Is(target error) bool { return target == ErrOutage }

const errNoAnswer = outageError("the source of the credentials did not answer within a minute")

// expiredError returns the error of a retrieval that brought expired credentials.
func expiredError(creds aws.Credentials) error {
	text := "the credentials expired at " + creds.Expires.Format(time.RFC3339)
	if traitsOf(creds.Source).bridged {
		return outageError(text)
	}
	return errors.New(text)
}

var errNoneFound = errors.New("no AWS credentials were found")

// orNoneFound returns err as an errNoneFound if it is that of the EC2 metadata
// service, the last source of the SDK's default chain, and that is not overloaded.
// On a laptop nobody answers at its address.
func orNoneFound(err error) error {
	var operation *smithy.OperationError
	for inner := err; errors.As(inner, &operation); { // the innermost is the source of the others
		inner = operation.Err
	}
	if operation != nil && operation.Service() == "ec2imds" && !overloaded(err) {
		return fmt.Errorf("%w: %w", errNoneFound, err)
	}
	return err
}
