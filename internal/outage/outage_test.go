package outage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/bedrocktoken/bedrocktoken/internal/outage"
)

func status(code int) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}},
		Err:      errors.New("answer"),
	}
}

type panicking struct{}

func (panicking) Error() string { return "error" }
func (panicking) Unwrap() error { panic("no cause") }

type connected struct{ error }

func (connected) ConnectionError() bool { return false }

func TestIs(t *testing.T) {
	_, noFile := os.ReadFile(t.TempDir() + "/token")
	_, noAddress := net.Dial("unix", t.TempDir()+"/socket")
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"status 400":                {status(400), false},
		"status 403":                {status(403), false},
		"status 404":                {status(404), false},
		"status 428":                {status(428), false},
		"status 429":                {status(429), true},
		"status 430":                {status(430), false},
		"status 499":                {status(499), false},
		"status 500":                {status(500), true},
		"status 503":                {status(503), true},
		"status 599":                {status(599), true},
		"status 600":                {status(600), false},
		"throttled with status 400": {errors.Join(status(400), &smithy.GenericAPIError{Code: "Throttling"}), true},
		"slow down":                 {&smithy.GenericAPIError{Code: "SlowDown"}, true},
		"access denied":             {&smithy.GenericAPIError{Code: "AccessDenied"}, false},
		"no answer":                 {outage.ErrNoAnswer, true},
		"timed out":                 {&aws.RequestCanceledError{Err: context.DeadlineExceeded}, true},
		"canceled":                  {&aws.RequestCanceledError{Err: context.Canceled}, false},
		"no host":                   {&net.DNSError{Err: "no such host"}, true},
		"no connection":             {noAddress, true},
		"reset":                     {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		"closed before an answer":   {&url.Error{Op: "Get", URL: "http://localhost", Err: io.EOF}, true},
		"not sent":                  {&smithyhttp.RequestSendError{Err: errors.New("no")}, true},
		"sent":                      {connected{errors.New("no")}, false},
		"broke off":                 {&smithy.DeserializationError{Err: io.ErrUnexpectedEOF}, true},
		"empty":                     {&smithy.DeserializationError{Err: io.EOF}, false},
		"no file":                   {noFile, false},
		"signed out":                {&ssocreds.InvalidTokenError{Err: noFile}, false},
		"sign-in expired":           {&ssocreds.InvalidTokenError{Err: errors.New("expired")}, false},
		"panics":                    {panicking{}, false},
		"nil pointer":               {(*smithyhttp.ResponseError)(nil), false},
		"any other":                 {errors.New("no"), false},
		"none":                      {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outage.Is(test.err); got != test.want {
				t.Errorf("Is(%v) = %v", test.err, got)
			}
			if test.err == nil {
				return
			}
			wrapped := fmt.Errorf("wrapped: %w", &retry.MaxAttemptsError{Attempt: 3, Err: test.err})
			if got := outage.Is(wrapped); got != test.want {
				t.Errorf("wrapped: %v", got)
			}
		})
	}
}
