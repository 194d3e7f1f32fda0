package explain_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// inCredentials returns err as the library returns the error of a source.
func inCredentials(err error) error {
	return fmt.Errorf("%w: failed to refresh cached credentials, %w", bedrocktoken.ErrCredentials, err)
}

func operation(service string, err error) error {
	return inCredentials(&smithy.OperationError{ServiceID: service, OperationName: "Get", Err: err})
}

func status(code int) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: errors.New("no")}
}

var (
	refused  = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	unsaved  = fmt.Errorf("save token: %w", &fs.PathError{Op: "open", Path: "/home/me/.aws/login/cache/x.json", Err: fs.ErrPermission})
	noRegion = fmt.Errorf("%w: none is set; use WithRegion", bedrocktoken.ErrRegion)
)

func TestError(t *testing.T) {
	_, missing := os.Open("/does/not/exist")
	const (
		keys = "\nSet AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, sign in with aws login or aws sso login, or name a profile with -profile."
		full = ", and nothing expands its ~\nSet it to the full path of the file."
	)
	for name, test := range map[string]struct {
		env     map[string]string
		err     error
		profile string
		want    string
	}{
		"anything":           {nil, errors.New("odd"), "", "odd"},
		"of the library":     {nil, inCredentials(errors.New("odd")), "", "no valid credentials: odd"},
		"control characters": {nil, errors.New("a\x1b[31m\r\n\u202eb"), "", "a [31m b"},
		"secrets":            {nil, errors.New("AKIAIOSFODNN7EXAMPLE bedrock-api-key-YmVk== eyJhbGciOi.x secretAccessKey=hidden"), "", "*** *** *** ***"},
		"path":               {nil, operation("STS", missing), "", "no valid credentials: operation error STS: Get, " + missing.Error()},

		"login cache read-only":  {nil, inCredentials(unsaved), "", "the renewed sign-in cannot be saved: open /home/me/.aws/login/cache/x.json: permission denied\nMake the directory writable, or use keys from aws configure export-credentials."},
		"SSO cache read-only":    {nil, inCredentials(fmt.Errorf("refresh cached SSO token failed, unable to cache refreshed SSO token, failed to create cached SSO token file %w", &fs.PathError{Op: "open", Path: "/x.json", Err: errors.New("read-only file system")})), "", "the renewed sign-in cannot be saved: open /x.json: read-only file system\nMake the directory writable, or use keys from aws configure export-credentials."},
		"SSO cache not readable": {nil, inCredentials(fmt.Errorf("failed to read cached SSO token file, %w", &fs.PathError{Op: "open", Path: "/x.json", Err: fs.ErrPermission})), "", "no valid credentials: failed to read cached SSO token file, open /x.json: permission denied\nLet this user read the file."},

		"MFA":     {nil, fmt.Errorf("%w: %w", bedrocktoken.ErrCredentials, config.AssumeRoleTokenProviderNotSetError{}), "", "the profile's role wants an MFA code, which cannot be asked for here\nUse aws login, or keys from aws configure export-credentials."},
		"no code": {nil, inCredentials(errors.New("no MFA code was given")), "", "no MFA code was given\nRun it in a terminal and type the code."},

		"no credentials":              {nil, operation("ec2imds", refused), "", "no AWS credentials were found" + keys},
		"no credentials, time is out": {nil, operation("ec2imds", context.DeadlineExceeded), "", "no AWS credentials were found, and the EC2 metadata service gave none in time" + keys},
		"only the secret key":         {map[string]string{"AWS_SECRET_ACCESS_KEY": "x"}, operation("ec2imds", refused), "", "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set\nSet the other one too, or name a profile with -profile."},
		"EC2 out of order":            {nil, operation("ec2imds", status(500)), "", "the EC2 metadata service answered with status 500 Internal Server Error" + keys},

		"tilde, no credentials": {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "~/keys"}, operation("ec2imds", refused), "", `AWS_SHARED_CREDENTIALS_FILE is "~/keys"` + full},
		"tilde, no profile":     {map[string]string{"AWS_CONFIG_FILE": "~/config"}, config.SharedConfigProfileNotExistError{Profile: "team"}, "team", `AWS_CONFIG_FILE is "~/config"` + full},
		"tilde, no region":      {map[string]string{"AWS_CONFIG_FILE": "~/config"}, noRegion, "", `AWS_CONFIG_FILE is "~/config"` + full},
		"tilde, not to blame":   {map[string]string{"AWS_CONFIG_FILE": "~/config"}, errors.New("odd"), "", "odd"},

		"sign in":              {nil, inCredentials(errors.New("load login token: token file not found, please reauthenticate")), "", "no valid credentials: load login token: token file not found, please reauthenticate\nSign in with aws login."},
		"sign in, AWS_PROFILE": {map[string]string{"AWS_PROFILE": "team"}, inCredentials(errors.New("login session has expired")), "", "no valid credentials: login session has expired\nSign in with aws login --profile \"team\"."},
		"sign in, -profile":    {map[string]string{"AWS_PROFILE": "other"}, inCredentials(errors.New("login session has expired")), "team", "no valid credentials: login session has expired\nSign in with aws login --profile \"team\"."},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, test.env)
			if got := explain.Error(test.err, test.profile); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestErrorIsBounded(t *testing.T) {
	for _, err := range []error{
		errors.New(strings.Repeat("ü", 1000)),
		config.SharedConfigProfileNotExistError{Profile: strings.Repeat("ü", 1000)},
		inCredentials(errors.New(strings.Repeat("login session ", 1000))),
	} {
		got := explain.Error(err, strings.Repeat("p", 1000))
		for line := range strings.Lines(got) {
			if len(line) > 401 {
				t.Errorf("a line of %d bytes: %s", len(line), line)
			}
		}
		if strings.Count(got, "\n") > 1 || strings.Contains(got, "\ufffd") {
			t.Errorf("got %q", got)
		}
	}
}

// A client may try again only what can pass by itself.
func TestTemporary(t *testing.T) {
	_, noFile := os.Open("/does/not/exist")
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"STS, 503":                   {operation("STS", status(503)), true},
		"STS, 403":                   {operation("STS", status(403)), false},
		"STS, throttled":             {operation("STS", &smithy.GenericAPIError{Code: "ThrottlingException"}), true},
		"STS, unreachable":           {operation("STS", refused), true},
		"STS, silent":                {operation("STS", context.DeadlineExceeded), true},
		"STS after EC2, unreachable": {operation("ec2imds", &smithy.OperationError{ServiceID: "STS", Err: refused}), true},
		"EC2, 503":                   {operation("ec2imds", status(503)), true},
		"EC2, unreachable":           {operation("ec2imds", refused), false},
		"EC2, silent":                {operation("ec2imds", context.DeadlineExceeded), false},
		"EC2, disabled":              {operation("ec2imds", errors.New("access disabled to EC2 IMDS")), false},
		"container, unreachable":     {inCredentials(fmt.Errorf("failed to load credentials, %w", refused)), true},
		"not signed in":              {inCredentials(fmt.Errorf("failed to read cached SSO token file, %w", noFile)), false},
		"read-only":                  {inCredentials(unsaved), false},
		"no region":                  {noRegion, false},
		"none":                       {nil, false},
	} {
		if got := explain.Temporary(test.err); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
