package explain_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

const (
	accessKeyID = "AKIAIOSFODNN7EXAMPLE"
	secretKey   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	failToken   = "BEDROCKTOKEN_TEST_EXPLAINS"
)

// Asked to, the test binary explains why it makes no token.
func TestMain(m *testing.M) {
	if os.Getenv(failToken) != "" {
		_, err := bedrocktoken.ProvideToken(context.Background())
		fmt.Println(explain.Error(err, ""))
		return
	}
	os.Exit(awstest.Main(m))
}

// explainInProcess returns what a process of its own writes, with an environment
// that others can run beside.
func explainInProcess(t *testing.T, env map[string]string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), failToken+"=yes")
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	return string(output)
}

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
	refused     = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	errUnsaved  = fmt.Errorf("save token: %w", &fs.PathError{Op: "open", Path: "/home/me/.aws/login/cache/x.json", Err: fs.ErrPermission})
	errNoRegion = fmt.Errorf("%w: none is set; use WithRegion", bedrocktoken.ErrRegion)
)

func TestError(t *testing.T) {
	_, missing := os.Open("/does/not/exist")
	longPath := &fs.PathError{Op: "open", Path: "/home/" + strings.Repeat("long/", 10) + "file", Err: fs.ErrNotExist}
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

		"login cache read-only":  {nil, inCredentials(errUnsaved), "", "the renewed sign-in cannot be saved: open /home/me/.aws/login/cache/x.json: permission denied\nMake the directory writable, or use keys from aws configure export-credentials."},
		"SSO cache read-only":    {nil, inCredentials(fmt.Errorf("refresh cached SSO token failed, unable to cache refreshed SSO token, failed to create cached SSO token file %w", &fs.PathError{Op: "open", Path: "/x.json", Err: errors.New("read-only file system")})), "", "the renewed sign-in cannot be saved: open /x.json: read-only file system\nMake the directory writable, or use keys from aws configure export-credentials."},
		"SSO cache not readable": {nil, inCredentials(fmt.Errorf("failed to read cached SSO token file, %w", &fs.PathError{Op: "open", Path: "/x.json", Err: fs.ErrPermission})), "", "no valid credentials: failed to read cached SSO token file, open /x.json: permission denied\nLet this user read the file."},

		"MFA":     {nil, fmt.Errorf("%w: %w", bedrocktoken.ErrCredentials, config.AssumeRoleTokenProviderNotSetError{}), "", "the profile's role wants an MFA code, which cannot be asked for here\nUse aws login, or keys from aws configure export-credentials."},
		"no code": {nil, inCredentials(errors.New("no MFA code was given")), "", "no MFA code was given\nRun it in a terminal and type the code."},

		"no credentials":              {nil, operation("ec2imds", refused), "", "no AWS credentials were found" + keys},
		"no credentials, time is out": {nil, operation("ec2imds", context.DeadlineExceeded), "", "no AWS credentials were found, and the EC2 metadata service gave none in time" + keys},
		"only the secret key":         {map[string]string{"AWS_SECRET_ACCESS_KEY": "x"}, operation("ec2imds", refused), "", "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set\nSet the other one too, or name a profile with -profile."},
		"EC2 out of order":            {nil, operation("ec2imds", status(500)), "", "the EC2 metadata service answered with status 500 Internal Server Error" + keys},

		"EC2 out of order for long":  {nil, operation("ec2imds", errors.Join(context.DeadlineExceeded, status(500))), "", "the EC2 metadata service answered with status 500 Internal Server Error" + keys},
		"wrong region":               {nil, fmt.Errorf(`%w: "x y" is not a region`, bedrocktoken.ErrRegion), "", "invalid region: \"x y\" is not a region\nGive -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."},
		"long path":                  {nil, operation("STS", longPath), "", "no valid credentials: operation error STS: Get, " + longPath.Error()},
		"secret key of a service":    {nil, operation("STS", &smithy.GenericAPIError{Code: "Denied", Message: secretKey + " AKIAIOSFODNN7EXAMPLE"}), "", "STS answered: Denied: *** ***"},
		"SSO refuses":                {nil, operation("SSO", &smithy.GenericAPIError{Code: "Denied"}), "", "SSO answered: Denied\nSign in with aws sso login. The profile needs the sso_account_id and sso_role_name of a role that is yours."},
		"SSO out of order":           {nil, operation("SSO", status(500)), "", "SSO answered with status 500 Internal Server Error"},
		"SSO, no code":               {nil, operation("SSO", errors.Join(status(400), &smithy.GenericAPIError{Code: "UnknownError"})), "", "SSO answered with status 400 Bad Request"},
		"SSO OIDC refuses":           {nil, operation("SSO OIDC", &smithy.GenericAPIError{Code: "Denied"}), "", "SSO OIDC answered: Denied\nSign in with aws sso login."},
		"old SSO session":            {nil, inCredentials(errors.New("the SSO session has expired or is invalid")), "", "no valid credentials: the SSO session has expired or is invalid\nSign in with aws sso login."},
		"sign-in refuses":            {nil, operation("Signin", &smithy.GenericAPIError{Code: "Denied"}), "", "Signin answered: Denied\nSign in with aws login."},
		"an answer that is no error": {nil, operation("STS", status(200)), "", "no valid credentials: operation error STS: Get, " + status(200).Error()},

		"tilde, no credentials": {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "~/keys"}, operation("ec2imds", refused), "", `AWS_SHARED_CREDENTIALS_FILE is "~/keys"` + full},
		"tilde, no profile":     {map[string]string{"AWS_CONFIG_FILE": "~/config"}, config.SharedConfigProfileNotExistError{Profile: "team"}, "team", `AWS_CONFIG_FILE is "~/config"` + full},
		"tilde, no region":      {map[string]string{"AWS_CONFIG_FILE": "~/config"}, errNoRegion, "", `AWS_CONFIG_FILE is "~/config"` + full},
		"tilde, not to blame":   {map[string]string{"AWS_CONFIG_FILE": "~/config"}, errors.New("odd"), "", "odd"},

		"sign in":              {nil, inCredentials(errors.New("load login token: token file not found, please reauthenticate")), "", "no valid credentials: load login token: token file not found, please reauthenticate\nSign in with aws login."},
		"sign in, AWS_PROFILE": {map[string]string{"AWS_PROFILE": "team"}, inCredentials(errors.New("login session has expired")), "", "no valid credentials: login session has expired\nSign in with aws login --profile \"team\"."},
		"sign in, -profile":    {map[string]string{"AWS_PROFILE": "other"}, inCredentials(errors.New("login session has expired")), "team", "no valid credentials: login session has expired\nSign in with aws login --profile \"team\"."},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
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
		"read-only":                  {inCredentials(errUnsaved), false},
		"no region":                  {errNoRegion, false},
		"none":                       {nil, false},
	} {
		if got := explain.Temporary(test.err); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// Profiles that give no credentials, most of them because something is wrong.
const faulty = `
[profile keys]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
[profile half]
region = us-east-1
aws_access_key_id = AKIAME
[profile role]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/team
source_profile = keys
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = keys
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile sourceless]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/team
[profile loop]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = loop-back
[profile loop-back]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = loop
[profile self]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = self
[profile ghost-source]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = ghost
[profile roleless]
source_profile = keys
[profile bundle]
ca_bundle = /does/not/exist.pem
[profile process]
region = us-east-1
credential_process = exit 3
[profile sso]
region = us-east-1
sso_session = corp
sso_account_id = 123456789012
sso_role_name = team
[sso-session corp]
sso_region = us-east-1
sso_start_url = https://example.com/start
[profile sso-roleless]
region = us-east-1
sso_session = corp
sso_account_id = 123456789012
[profile sso-accountless]
sso_session = corp
sso_role_name = team
[profile role-over-roleless]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = sso-roleless
[profile role-over-sso]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = sso
[profile sso-nowhere]
sso_session = nowhere
sso_account_id = 123456789012
sso_role_name = team
[profile old-sso-roleless]
sso_region = us-east-1
sso_start_url = https://example.com/start
sso_account_id = 123456789012
[profile old-sso]
region = us-east-1
sso_region = us-east-1
sso_start_url = https://example.com/start
sso_account_id = 123456789012
sso_role_name = team
[profile login]
region = us-east-1
login_session = arn:aws:sts::123456789012:assumed-role/team/me
`

// What is wrong in the settings is named, and nothing else is suggested.
func TestWrongSettings(t *testing.T) {
	awstest.WriteConfig(t, faulty)
	noCertificates := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(noCertificates, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, noFile := os.ReadFile("/does/not/exist.pem")
	bundle := func(name string) string {
		return fmt.Sprintf("The CA bundle is named by AWS_CA_BUNDLE, which is %q, or by the profile's ca_bundle.\n", name)
	}
	for name, test := range map[string]struct {
		env           map[string]string
		profile, want string
	}{
		"CA bundle":                 {map[string]string{"AWS_CA_BUNDLE": "/does/not/exist.pem"}, "keys", "cannot load the AWS config: " + noFile.Error() + "\n" + bundle("/does/not/exist.pem")},
		"CA bundle of the profile":  {nil, "bundle", "cannot load the AWS config: " + noFile.Error() + "\n" + bundle("")},
		"CA bundle of no use":       {map[string]string{"AWS_CA_BUNDLE": noCertificates}, "keys", "cannot load the AWS config: failed to load custom CA bundle PEM file\n" + bundle(noCertificates)},
		"source_profile loop":       {nil, "loop", "the source_profile \"loop\" does not exist, has no credentials or leads back to itself\n"},
		"role_arn loop":             {nil, "self", "the source_profile \"self\" does not exist, has no credentials or leads back to itself\n"},
		"source_profile missing":    {nil, "ghost-source", "the source_profile \"ghost\" does not exist, has no credentials or leads back to itself\n"},
		"role_arn missing":          {nil, "roleless", "cannot load the AWS config: credential type source_profile requires role_arn, profile roleless\n"},
		"old sso_role_name missing": {nil, "old-sso-roleless", "cannot load the AWS config: profile \"old-sso-roleless\" is configured to use SSO but is missing required configuration: sso_role_name\n"},
		"sso-session missing":       {nil, "sso-nowhere", "cannot load the AWS config: failed to find SSO session section, nowhere\n"},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion("us-east-1"), bedrocktoken.WithProfile(test.profile))
			if got := explain.Error(err, test.profile); got != strings.TrimSuffix(test.want, "\n") {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// What the SDK says of a profile, of which it depends whether the advice is found.
func TestProfilesWithoutCredentials(t *testing.T) {
	awstest.WriteConfig(t, faulty)
	for name, test := range map[string]struct {
		env     map[string]string
		profile string
		says    []string
	}{
		"no such AWS_PROFILE":   {map[string]string{"AWS_PROFILE": "nobody"}, "", []string{`there is no profile "nobody"`, "AWS_PROFILE"}},
		"half the keys":         {map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID}, "", []string{"only one of", "AWS_SECRET_ACCESS_KEY"}},
		"role without a source": {nil, "sourceless", []string{"no AWS credentials were found\nSet "}},
		"half a profile":        {nil, "half", []string{"partial credentials"}},
		"no network":            {map[string]string{"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, "role", []string{"STS cannot be reached", "127.0.0.1:1"}},
		"failing process":       {nil, "process", []string{"credential_process", "3"}},
		"MFA":                   {nil, "mfa", []string{"MFA code", "aws configure export-credentials"}},
		"no SSO session":        {nil, "sso", []string{"\nSign in with aws sso login --profile \"sso\"."}},
		"below a role":          {nil, "role-over-sso", []string{"\nSign in with aws sso login, for the source_profile of \"role-over-sso\"."}},
		"no old SSO session":    {nil, "old-sso", []string{"\nSign in with aws sso login --profile \"old-sso\"."}},
		"no login session":      {nil, "login", []string{"\nSign in with aws login --profile \"login\"."}},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion("us-east-1"), bedrocktoken.WithProfile(test.profile))
			if err == nil {
				t.Fatal("there is a token")
			}
			got := explain.Error(err, test.profile)
			for _, part := range test.says {
				if !strings.Contains(got, part) {
					t.Errorf("%q is not in:\n%s", part, got)
				}
			}
		})
	}
}

// writeHome makes a home directory for explainInProcess in which a person has signed in
// before, and returns the variables that say so.
func writeHome(t *testing.T) map[string]string {
	t.Helper()
	home := t.TempDir()
	write := func(file string, content any) {
		text, ok := content.(string)
		if !ok {
			encoded, err := json.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			text = string(encoded)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(home, "config"), faulty+`
[profile container]
role_arn = arn:aws:iam::123456789012:role/team
credential_source = EcsContainer
[profile ec2]
role_arn = arn:aws:iam::123456789012:role/team
credential_source = Ec2InstanceMetadata
[profile old-sso-expired]
sso_region = us-east-1
sso_start_url = https://example.com/expired
sso_account_id = 123456789012
sso_role_name = team
[profile sso-expired]
sso_session = expired
sso_account_id = 123456789012
sso_role_name = team
[sso-session expired]
sso_region = us-east-1
sso_start_url = https://example.com/start
`)
	future, past := time.Now().Add(time.Hour).UTC().Format(time.RFC3339), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for session, token := range map[string]map[string]string{
		"corp":                        {"accessToken": "token", "expiresAt": future},
		"https://example.com/expired": {"accessToken": "token", "expiresAt": past},
		"expired":                     {"accessToken": "token", "expiresAt": past, "refreshToken": "r", "clientId": "c", "clientSecret": "s"},
	} {
		file, err := ssocreds.StandardCachedTokenFilepath(session)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(home, ".aws", "sso", "cache", filepath.Base(file)), token)
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := logincreds.StandardCachedTokenFilepath("arn:aws:sts::123456789012:assumed-role/team/me", home)
	if err != nil {
		t.Fatal(err)
	}
	write(file, map[string]any{
		"accessToken": map[string]string{"accessKeyId": "a", "secretAccessKey": "s", "sessionToken": "t", "accountId": "123456789012", "expiresAt": past},
		"clientId":    "c", "refreshToken": "r", "dpopKey": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
	})
	return map[string]string{
		"HOME": home, "USERPROFILE": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_LOGIN_CACHE_DIRECTORY": home,
	}
}

// The shorter limit stands in for the 10 seconds that a test cannot wait for
// three times.
func TestSilentContainer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	_, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion("us-east-1"), bedrocktoken.WithCredentialsProvider(
		endpointcreds.New(server.URL, func(o *endpointcreds.Options) {
			o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(10 * time.Millisecond)
			o.Retryer = aws.NopRetryer{}
		}),
	))
	if got, want := explain.Error(err, ""), "the container's credentials endpoint did not answer"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What services say, or that they say nothing, reaches the person, with no more
// of it than fits and is safe to show. The SDK's warnings, which it writes past
// everybody, do not. What takes seconds runs beside the rest.
func TestFailingServices(t *testing.T) {
	var (
		silent = func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // a client that leaves is noticed after that
			<-r.Context().Done()
		}
		answer = func(status int, contentType, body string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(status)
				io.WriteString(w, body)
			}
		}
		// ec2 issues tokens, lists one role, and answers for it.
		ec2 = func(list, role http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				switch path.Base(r.URL.Path) {
				case "token":
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
					io.WriteString(w, "token")
				case "team":
					role(w, r)
				default:
					list(w, r)
				}
			}
		}
		noTokens = func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			silent(w, r)
		}
		team = answer(200, "text/plain", "team")
		keys = fmt.Sprintf(`{"AccessKeyId": "%s", "SecretAccessKey": "short/secret", "Token": "short-session", "SessionToken": "old-session", "other": "%s", "bearer": "bedrock-api-key-YmVk", "web": "eyJhbGciOi.eyJzdWIi.c2ln"}`+" \x1b[31m\u202e\r\n", accessKeyID, secretKey)
		page = "<html><body>" + strings.Repeat(keys, 30) + "</body></html>"
	)
	quoted, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}

	const (
		container = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
		metadata  = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
		sts       = "AWS_ENDPOINT_URL_STS"
		sso       = "AWS_ENDPOINT_URL_SSO"
		oidc      = "AWS_ENDPOINT_URL_SSO_OIDC"
		signin    = "AWS_ENDPOINT_URL_SIGNIN"

		theEndpoint = "the container's credentials endpoint "
		theService  = "the EC2 metadata service "
		set         = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, sign in with aws login or aws sso login, or name a profile with -profile.\n"
		inTime      = "no AWS credentials were found, and the EC2 metadata service gave none in time\n"
		role        = ". The profile needs the sso_account_id and sso_role_name of a role that is yours.\n"
	)
	type failure struct {
		service string // the variable that names its URL
		handler http.HandlerFunc
		profile string
		want    string // all of standard error, or how it begins if it ends with ...
	}
	slow := map[string]failure{
		"STS, silent":                {sts, silent, "role", "STS did not answer\n"},
		"EC2, 500":                   {metadata, answer(500, "text/html", page), "", inTime + set},
		"EC2, silent":                {metadata, silent, "", inTime + set},
		"EC2, silent after a token":  {metadata, ec2(silent, nil), "", inTime + set},
		"EC2, silent without tokens": {metadata, noTokens, "", inTime + set},
		"EC2, unreachable":           {metadata, nil, "", "no AWS credentials were found\n" + set},
	}
	quick := map[string]failure{
		"STS, a page":               {sts, answer(500, "text/html", page), "role", "STS answered with status 500 Internal Server Error\n"},
		"STS, not XML":              {sts, answer(502, "text/html", "<p>Bad Gateway &nbsp;\x1b"), "role", "STS answered with status 502 Bad Gateway\n"},
		"STS, nothing":              {sts, answer(407, "", ""), "role", "STS answered with status 407 Proxy Authentication Required\n"},
		"STS, 200 and a page":       {sts, answer(200, "text/html", "<p>Sign in &nbsp;"), "role", "no valid credentials: operation error STS: AssumeRole, ..."},
		"container, a page":         {container, answer(403, "text/html", page), "", theEndpoint + "answered with status 403 Forbidden\n"},
		"container, JSON as text":   {container, answer(400, "text/plain", keys), "", theEndpoint + "answered with status 400 Bad Request\n"},
		"container, other JSON":     {container, answer(404, "application/json", keys), "", theEndpoint + "answered with status 404 Not Found\n"},
		"container, not JSON":       {container, answer(404, "application/json", page), "", "no valid credentials: the container's credentials endpoint, deserialization failed, ..."},
		"container, 200 and a page": {container, answer(200, "text/html", page), "", "no valid credentials: the container's credentials endpoint, deserialization failed, ..."},
		"container, keys in JSON":   {container, answer(400, "application/json", `{"code": "Denied", "message": `+string(quoted)+`}`), "", theEndpoint + "answered: Denied: {..."},
		"container, long JSON":      {container, answer(400, "application/json", `{"code": "Denied", "message": "`+strings.Repeat("no ", 2000)+`"}`), "", theEndpoint + "answered: Denied: no no no ..."},
		"container, no message":     {container, answer(400, "application/json", `{"code": "Denied"}`), "", theEndpoint + "answered: Denied\n"},
		"container below a role":    {container, answer(400, "application/json", `{"code": "Denied", "message": "no"}`), "container", theEndpoint + "answered: Denied: no\n"},
		"EC2, 403":                  {metadata, answer(403, "", ""), "", theService + "answered with status 403 Forbidden\n" + set},
		"EC2, 429":                  {metadata, answer(429, "", ""), "", theService + "answered with status 429 Too Many Requests\n" + set},
		"EC2, no role":              {metadata, ec2(answer(404, "", ""), nil), "", theService + "answered with status 404 Not Found\n" + set},
		"EC2, role refused":         {metadata, ec2(team, answer(200, "", `{"Code": "Denied", "Message": "ask later"}`)), "", theService + "answered: Denied: ask later\n" + set},
		"EC2, a page for a role":    {metadata, ec2(answer(200, "text/html", keys), nil), "", "no valid credentials: failed to get {..."},
		"EC2 below a role":          {metadata, answer(403, "", ""), "ec2", theService + "answered with status 403 Forbidden\n" + set},
		"SSO, 401":                  {sso, answer(401, "application/json", `{"message": "Session token not found or invalid", "__type": "x#UnauthorizedException"}`), "sso", "SSO answered: UnauthorizedException: Session token not found or invalid\n" + "Sign in with aws sso login --profile \"sso\"" + role},
		"SSO, 403":                  {sso, answer(403, "application/json", `{"message": "No access", "__type": "x#ForbiddenException"}`), "sso", "SSO answered: ForbiddenException: No access\n" + "Sign in with aws sso login --profile \"sso\"" + role},
		"SSO below a role":          {sso, answer(403, "application/json", `{"message": "No access", "__type": "x#ForbiddenException"}`), "role-over-sso", "SSO answered: ForbiddenException: No access\n" + "Sign in with aws sso login, for the source_profile of \"role-over-sso\"" + role},
		"SSO, old session expired":  {sso, nil, "old-sso-expired", "no valid credentials: the SSO session has expired or is invalid\n" + "Sign in with aws sso login --profile \"old-sso-expired\".\n"},
		"SSO, a page":               {sso, answer(500, "text/html", page), "sso", "SSO answered with status 500 Internal Server Error\n"},
		"SSO, no sso_role_name":     {sso, answer(400, "application/json", `{"message": "?", "__type": "x#InvalidRequestException"}`), "sso-roleless", "SSO answered: InvalidRequestException: ?\nSign in with aws sso login --profile \"sso-roleless\"" + role},
		"OIDC, unreachable":         {oidc, nil, "sso-expired", "SSO OIDC cannot be reached: dial tcp ..."},
		"OIDC, a page":              {oidc, answer(500, "text/html", page), "sso-expired", "SSO OIDC answered with status 500 Internal Server Error\n"},
		"OIDC, session expired":     {oidc, answer(400, "application/json", `{"error": "invalid_grant", "__type": "x#InvalidGrantException"}`), "sso-expired", "SSO OIDC answered: InvalidGrantException\n" + "Sign in with aws sso login --profile \"sso-expired\".\n"},
		"sign-in, refused":          {signin, answer(400, "application/json", `{"message": "no", "__type": "x#ValidationException"}`), "login", "Signin answered: ValidationException: no\nSign in with aws login --profile \"login\".\n"},
		"sign-in, session expired":  {signin, answer(403, "application/json", `{"error": "TOKEN_EXPIRED", "__type": "x#AccessDeniedException"}`), "login", "no valid credentials: create oauth2 token: login session has expired, please reauthenticate\nSign in with aws login --profile \"login\".\n"},
	}

	home := writeHome(t)
	run := func(t *testing.T, test failure) string {
		url := "http://127.0.0.1:1" // where nobody listens
		if test.handler != nil {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			url = server.URL
		}
		env := maps.Clone(home)
		maps.Copy(env, map[string]string{
			"AWS_REGION": "us-east-1", "AWS_PROFILE": test.profile, "AWS_MAX_ATTEMPTS": "1",
			"AWS_EC2_METADATA_DISABLED": strconv.FormatBool(test.service != metadata), test.service: url,
		})
		return explainInProcess(t, env)
	}
	check := func(t *testing.T, test failure, said string) {
		want, begins := strings.CutSuffix(test.want, "...")
		if said != want && !(begins && strings.HasPrefix(said, want)) {
			t.Errorf("got %q, want %q", said, want)
		}
		if lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n"); len(lines) > 2 || len(lines[0]) > 420 {
			t.Errorf("more than two lines, or long ones:\n%s", said)
		}
		if strings.ContainsFunc(said, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("not to be printed: %q", said)
		}
		for _, secret := range []string{accessKeyID, "short/secret", "short-session", "old-session", secretKey, "YmVk", "c2ln"} {
			if strings.Contains(said, secret) {
				t.Errorf("%q is shown:\n%s", secret, said)
			}
		}
	}

	results := make(map[string]chan string)
	for name, test := range slow {
		got := make(chan string, 1)
		go func() { got <- run(t, test) }()
		results[name] = got
	}
	for name, test := range quick {
		t.Run(name, func(t *testing.T) { check(t, test, run(t, test)) })
	}
	for name, test := range slow {
		t.Run(name, func(t *testing.T) { check(t, test, <-results[name]) })
	}
}
