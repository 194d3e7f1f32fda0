// Package outage tells a source of credentials that is out of order for the moment
// from one that refuses. The library goes on with held credentials in an outage,
// and the proxy lets its callers try again.
package outage

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// ErrNoAnswer is the error of a retrieval that was abandoned.
var ErrNoAnswer = errors.New("the source of the credentials did not answer within a minute")

// Is reports whether err, which a source of credentials returned, is an outage: no
// answer, an answer that broke off, status 429 or 500 to 599, or one of the codes by
// which AWS's services throttle. Any other error is a refusal, which a person may
// have to mend.
func Is(err error) (is bool) {
	defer func() {
		if recover() != nil { // a method of err panicked
			is = false
		}
	}()
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		status := answer.HTTPStatusCode()
		if status == http.StatusTooManyRequests || status >= 500 && status <= 599 {
			return true
		}
	}
	var unsent interface{ ConnectionError() bool } // the SDK's error for a request without an answer
	var network net.Error                          // context.DeadlineExceeded is one
	return errors.As(err, &network) && !aboutFile(err) ||
		errors.As(err, &unsent) && unsent.ConnectionError() ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, ErrNoAnswer) ||
		throttled.IsErrorThrottle(err) == aws.TrueTernary
}

// aboutFile reports whether err is the operating system's about a file, such as a
// missing one. What it wraps, a syscall.Errno, is a net.Error too.
func aboutFile(err error) bool {
	return errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError))
}

var throttled = retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}
