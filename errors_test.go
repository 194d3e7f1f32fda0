package bedrocktoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

func status(code int) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}},
		Err:      errors.New("answer"),
	}
}

func code(code string) error { return errors.Join(status(400), &smithy.GenericAPIError{Code: code}) }

func operation(service string, err error) error {
	return fmt.Errorf("wrapped: %w", &smithy.OperationError{ServiceID: service, OperationName: "Operation", Err: err})
}

// metadata is what the SDK's default chain returns if it finds credentials nowhere
// and the metadata service of EC2, which it asks last, fails.
func metadata(err error) error { return operation("ec2imds", err) }

// An error of a source is ErrCredentials around it, and ErrOutage if trying again may
// help, whatever it is wrapped in.
func TestErrOutage(t *testing.T) {
	_, noFile := os.ReadFile(filepath.Join(t.TempDir(), "token"))
	_, noAddress := net.Dial("unix", filepath.Join(t.TempDir(), "socket"))
	for name, test := range map[string]struct {
		err    error
		outage bool
	}{
		"status 400":              {status(400), false},
		"status 428":              {status(428), false},
		"status 429":              {status(429), true},
		"status 430":              {status(430), false},
		"status 499":              {status(499), false},
		"status 500":              {status(500), true},
		"status 599":              {status(599), true},
		"status 600":              {status(600), false},
		"throttled":               {code("Throttling"), true},
		"slow down":               {code("SlowDown"), true},
		"identity provider":       {code("IDPCommunicationError"), true},
		"access denied":           {code("AccessDenied"), false},
		"timed out":               {&aws.RequestCanceledError{Err: context.DeadlineExceeded}, true},
		"canceled":                {&aws.RequestCanceledError{Err: context.Canceled}, false},
		"no host":                 {&net.DNSError{Err: "no such host"}, true},
		"no connection":           {noAddress, true},
		"reset":                   {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		"closed before an answer": {&url.Error{Op: "Get", URL: "http://localhost", Err: io.EOF}, true},
		"not sent":                {&smithyhttp.RequestSendError{Err: errors.New("no")}, true},
		"sent":                    {connected{errors.New("no")}, false},
		"broke off":               {&smithy.DeserializationError{Err: io.ErrUnexpectedEOF}, true},
		"empty":                   {&smithy.DeserializationError{Err: io.EOF}, false},
		"no file":                 {noFile, false},
		"no link":                 {&os.LinkError{Op: "link", Err: syscall.ENOENT}, false},
		"signed out":              {&ssocreds.InvalidTokenError{Err: noFile}, false},
		"sign-in expired":         {&ssocreds.InvalidTokenError{Err: errors.New("expired")}, false},
		"any other":               {errors.New("no"), false},
		"said by the source":      {fmt.Errorf("down: %w", bedrocktoken.ErrOutage), true},
		"metadata overloaded":     {metadata(status(429)), true},
		"metadata out of order":   {metadata(status(503)), true},
		"service out of reach":    {operation("STS", &net.DNSError{}), true},
		"service behind a role":   {metadata(operation("STS", status(400))), false},
	} {
		t.Run(name, func(t *testing.T) {
			for wrapped, err := range map[string]error{
				"as it is": test.err, "after retries": fmt.Errorf("wrapped: %w", &retry.MaxAttemptsError{Attempt: 3, Err: test.err}),
			} {
				for kind, source := range map[string]aws.CredentialsProvider{"raw": failing(err), "cached": aws.NewCredentialsCache(failing(err))} {
					err := errorOf(t, newProvider(t, source))
					if errors.Is(err, bedrocktoken.ErrOutage) != test.outage || !errors.Is(err, test.err) {
						t.Errorf("%s, %s: error %v, outage %v", wrapped, kind, err, errors.Is(err, bedrocktoken.ErrOutage))
					}
					if text := err.Error(); strings.Count(text, "failed to refresh cached credentials, ") != 1 || strings.Contains(text, "were found") {
						t.Errorf("%s, %s: error is %q", wrapped, kind, text)
					}
				}
			}
		})
	}
}

type connected struct{ error }

func (connected) ConnectionError() bool { return false }

// That there are no credentials anywhere is said in plain words, and is no outage:
// then only the metadata service was left to ask, and did not answer or had none.
func TestNoCredentialsWereFound(t *testing.T) {
	for name, cause := range map[string]error{
		"no answer":  metadata(&smithyhttp.RequestSendError{Err: context.DeadlineExceeded}),
		"status 404": metadata(status(404)),
		"status 400": metadata(status(400)),
		"disabled":   metadata(errRefused),
		"for a role": operation("STS", metadata(errRefused)),
	} {
		t.Run(name, func(t *testing.T) {
			err := errorOf(t, newProvider(t, failing(cause)))
			if errors.Is(err, bedrocktoken.ErrOutage) || !errors.Is(err, cause) || !strings.Contains(err.Error(), "no AWS credentials were found") {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// No error shows what a credential_process printed, which may be the keys, nor does
// any error that it wraps. The SDK's own errors quote the output.
func TestErrorHidesProcessOutput(t *testing.T) {
	output := filepath.Join(t.TempDir(), "output")
	for name, printed := range map[string]string{
		"more than JSON":     "a warning\n" + `{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"wrong type":         `{"Version": "1", "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"wrong time":         `{"Version": 1, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `", "Expiration": "soon"}`,
		"wrong version":      `{"Version": 2, "AccessKeyId": "x", "SecretAccessKey": "` + secretKey + `"}`,
		"no access key ID":   `{"Version": 1, "SecretAccessKey": "` + secretKey + `"}`,
		"nothing but a key":  secretKey,
		"half of the answer": `{"Version": 1, "SecretAccessKey": "` + secretKey,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(output, []byte(printed), 0o600); err != nil {
				t.Fatal(err)
			}
			awstest.WriteConfig(t, `
[default]
credential_process = `+printing(output)+`
[profile role]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = default
`)
			for _, profile := range []string{"", "role"} {
				err := errorOf(t, newProvider(t, nil, bedrocktoken.WithProfile(profile)))
				if !strings.Contains(err.Error(), ": failed to refresh cached credentials, credential_process: ") || errors.As(err, new(*processcreds.ProviderError)) {
					t.Errorf("error is %v, or the process's, output and all, is in the chain", err)
				}
				var joined interface{ Unwrap() []error }
				errors.As(err, &joined)
				for _, e := range append(joined.Unwrap(), err) {
					if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, secretKey[:20]) {
						t.Errorf("a %T shows the output: %s", e, text)
					}
				}
			}
		})
	}
	// A source may wrap it in a text in which the output cannot be found.
	cause := errors.New("the cause")
	inner := &processcreds.ProviderError{Err: fmt.Errorf("output %s: %w", secretKey, cause)}
	for _, err := range []error{fmt.Errorf("before %q: %w", inner.Error(), inner), errors.Join(inner, inner), hiding{inner}} {
		_, err := newProvider(t, failing(err)).Token(t.Context())
		if !errors.Is(err, cause) || strings.Contains(err.Error(), secretKey) || !strings.Contains(err.Error(), "the cause") {
			t.Errorf("error is %v", err)
		}
	}
}

// printing returns a shell command that prints a file.
func printing(file string) string {
	if runtime.GOOS == "windows" {
		return "type " + file
	}
	return "cat '" + file + "'"
}

type hiding struct{ error }

func (h hiding) Error() string { return "in other words: " + strings.ToUpper(h.error.Error()) }
func (h hiding) Unwrap() error { return h.error }

// A source that panics, or whose error does, is an error. So is one whose error is a
// nil pointer or cannot be compared.
func TestSourcesCauseNoPanic(t *testing.T) {
	for name, test := range map[string]struct {
		source aws.CredentialsProvider
		says   string
	}{
		"panics":              {aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { panic("no luck") }), "no luck"},
		"error panics":        {failing(panicking{}), "no text"},
		"error's cause does":  {failing(panickingCause{errRefused}), "no cause"},
		"error hides a nil":   {failing(outageOf{(*smithy.OperationError)(nil)}), ""},
		"nil net.OpError":     {failing((*net.OpError)(nil)), "net.OpError"},
		"nil url.Error":       {failing((*url.Error)(nil)), "url.Error"},
		"nil os.PathError":    {failing((*os.PathError)(nil)), "fs.PathError"},
		"nil response":        {failing((*smithyhttp.ResponseError)(nil)), "ResponseError"},
		"nil process error":   {failing((*processcreds.ProviderError)(nil)), "ProviderError"},
		"empty process error": {failing(&processcreds.ProviderError{}), ""},
		"not comparable":      {failing(uncomparable{"a", "b"}), "a b"},
	} {
		for kind, source := range map[string]aws.CredentialsProvider{"raw": test.source, "cached": aws.NewCredentialsCache(test.source)} {
			if kind == "cached" && name == "panics" {
				continue // in a goroutine of the SDK's
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				err, again := errorOf(t, newProvider(t, source)), errorOf(t, newProvider(t, source))
				if errors.Is(err, bedrocktoken.ErrOutage) || kind == "raw" && !strings.Contains(err.Error(), test.says) {
					t.Errorf("error is %q, want %q in it and no outage", err, test.says)
				}
				if err == again || errors.Is(err, again) || map[error]bool{err: true}[again] {
					t.Error("two errors are one")
				}
			})
		}
	}
}

type panicking struct{}

func (panicking) Error() string { panic("no text") }

type panickingCause struct{ error }

func (panickingCause) Unwrap() error { panic("no cause") }

type outageOf struct{ error }

func (outageOf) Error() string        { return "no answer" }
func (outageOf) Is(target error) bool { return target == bedrocktoken.ErrOutage }
func (o outageOf) Unwrap() error      { return o.error }

type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, " ") }

// The text of a source's error is shown without control characters and up to 500
// bytes. It begins as the SDK's cache begins it, once.
func TestErrorTextIsBounded(t *testing.T) {
	const refresh = "failed to refresh cached credentials, "
	const room = 500 - len(refresh)
	for name, test := range map[string]struct{ said, want string }{
		"plain":               {"no route to host", "no route to host"},
		"not ASCII":           {"kein Schlüssel für „x“", "kein Schlüssel für „x“"},
		"line breaks":         {"one\r\ntwo\tthree", "one two three"},
		"escape sequences":    {"\x1b[31mred\x1b[0m\x07\x00\u009b1m", " [31mred [0m 1m"},
		"invisible":           {"a\u202eb\u2028c\ufeffd", "a b c d"},
		"not UTF-8":           {"a\xffb", "a\ufffdb"},
		"as long as may be":   {strings.Repeat("x", room), strings.Repeat("x", room)},
		"longer":              {strings.Repeat("x", room+1), strings.Repeat("x", room-3) + "..."},
		"pages":               {strings.Repeat("x", 1<<20), strings.Repeat("x", room-3) + "..."},
		"cut within a letter": {strings.Repeat("x", room-4) + "üüü", strings.Repeat("x", room-4) + "..."},
		"refresh once":        {refresh + "x", "x"},
		"refresh twice":       {refresh + "x, " + refresh + "y", "x, y"},
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New(test.said)
			_, err := newProvider(t, failing(cause)).Token(t.Context())
			if !errors.Is(err, cause) || err.Error() != "bedrocktoken: no valid credentials: "+refresh+test.want {
				t.Errorf("got  %q\nwant %q after the prefixes", err, test.want)
			}
		})
	}
}
