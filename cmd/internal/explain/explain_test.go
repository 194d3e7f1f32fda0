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
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

const (
	accessKeyID = "AKIAIOSFODNN7EXAMPLE"
	secretKey   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	failToken   = "BEDROCKTOKEN_TEST_EXPLAINS"
)

// Asked to, the test binary explains why it makes no token, to who started it or to
// who uses a server that it is.
func TestMain(m *testing.M) {
	if command, asked := os.LookupEnv(failToken); asked {
		_, err := bedrocktoken.ProvideToken(context.Background(), bedrocktoken.WithRegion(os.Getenv("REGION")))
		if err != nil {
			fmt.Println(explain.Running(command, err, ""))
		}
		return
	}
	os.Exit(awstest.Main(m))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// home makes a home directory in which a person has signed in before, and profiles
// that give no credentials, most of them because something is wrong. It returns the
// variables that lead there.
func home(t *testing.T) map[string]string {
	t.Helper()
	home := t.TempDir()
	write := func(file string, text []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	text := "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://example.com/start\n" +
		"[sso-session expired]\nsso_region = us-east-1\nsso_start_url = https://example.com/start\n"
	for profile, lines := range map[string]string{
		"keys":             "aws_access_key_id = AKIAME; aws_secret_access_key = secret",
		"half":             "aws_access_key_id = AKIAME",
		"role":             "role_arn = arn:aws:iam::123456789012:role/team; source_profile = keys",
		"mfa":              "role_arn = arn:aws:iam::123456789012:role/team; source_profile = keys; mfa_serial = arn:aws:iam::123456789012:mfa/me",
		"role-alone":       "role_arn = arn:aws:iam::123456789012:role/team",
		"role-of-itself":   "role_arn = arn:aws:iam::123456789012:role/team; source_profile = role-of-itself",
		"role-of-ghost":    "role_arn = arn:aws:iam::123456789012:role/team; source_profile = ghost",
		"role-over-login":  "role_arn = arn:aws:iam::123456789012:role/team; source_profile = login",
		"role-over-sso":    "role_arn = arn:aws:iam::123456789012:role/team; source_profile = sso",
		"role-over-ecs":    "role_arn = arn:aws:iam::123456789012:role/team; credential_source = EcsContainer",
		"role-over-ec2":    "role_arn = arn:aws:iam::123456789012:role/team; credential_source = Ec2InstanceMetadata",
		"source-alone":     "source_profile = keys",
		"bundle":           "ca_bundle = /does/not/exist.pem",
		"process":          "credential_process = exit 3",
		"process-expired":  `credential_process = echo '{"Version": 1, "AccessKeyId": "AKIAME", "SecretAccessKey": "secret", "Expiration": "2020-01-02T03:04:05Z"}'`,
		"sso":              "sso_session = corp; sso_account_id = 123456789012; sso_role_name = team",
		"sso-never":        "sso_region = us-east-1; sso_start_url = https://example.com/never; sso_account_id = 123456789012; sso_role_name = team",
		"sso-ended":        "sso_region = us-east-1; sso_start_url = https://example.com/expired; sso_account_id = 123456789012; sso_role_name = team",
		"sso-expired":      "sso_session = expired; sso_account_id = 123456789012; sso_role_name = team",
		"sso-nowhere":      "sso_session = nowhere; sso_account_id = 123456789012; sso_role_name = team",
		"sso-without-role": "sso_region = us-east-1; sso_start_url = https://example.com/start; sso_account_id = 123456789012",
		"login":            "login_session = arn:aws:sts::123456789012:assumed-role/team/me",
		"login-never":      "login_session = arn:aws:sts::123456789012:assumed-role/team/you",
	} {
		text += "[profile " + profile + "]\n" + strings.ReplaceAll(lines, "; ", "\n") + "\n"
	}
	write(filepath.Join(home, "config"), []byte(text))

	future, past := time.Now().Add(time.Hour).UTC().Format(time.RFC3339), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for session, token := range map[string]map[string]string{
		"corp":                        {"accessToken": "token", "expiresAt": future},
		"https://example.com/expired": {"accessToken": "token", "expiresAt": past},
		"expired":                     {"accessToken": "token", "expiresAt": past, "refreshToken": "r", "clientId": "c", "clientSecret": "s"},
	} {
		file := must(ssocreds.StandardCachedTokenFilepath(session))
		write(filepath.Join(home, ".aws", "sso", "cache", filepath.Base(file)), must(json.Marshal(token)))
	}
	key := must(x509.MarshalECPrivateKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	write(must(logincreds.StandardCachedTokenFilepath("arn:aws:sts::123456789012:assumed-role/team/me", home)), must(json.Marshal(map[string]any{
		"accessToken": map[string]string{"accessKeyId": "a", "secretAccessKey": "s", "sessionToken": "t", "accountId": "123456789012", "expiresAt": past},
		"clientId":    "c", "refreshToken": "r", "dpopKey": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key})),
	})))
	return map[string]string{
		"HOME": home, "USERPROFILE": home, "AWS_CONFIG_FILE": filepath.Join(home, "config"), "AWS_LOGIN_CACHE_DIRECTORY": home,
		"REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1", failToken: "",
	}
}

// What is wrong, or what a service says or that it says nothing, reaches the person,
// with no more of it than fits and is safe to show, and with what to do about it.
// The SDK's warnings, which it writes past everybody, do not.
func TestError(t *testing.T) {
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
		refusal = func(status int, code, message string) http.HandlerFunc {
			text, _ := json.Marshal(map[string]string{"message": message, "__type": "x#" + code, "code": code})
			return answer(status, "application/json", string(text))
		}
		denied = func(code, message string) http.HandlerFunc { // as STS puts it
			return answer(403, "text/xml", "<ErrorResponse><Error><Code>"+code+"</Code><Message>"+message+"</Message></Error></ErrorResponse>")
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
		team = answer(200, "text/plain", "team")
		keys = fmt.Sprintf(`{"AccessKeyId": "%s", "SecretAccessKey": "short/secret", "Token": "short-session", "SessionToken": "old-session", "other": "%s", "bearer": "bedrock-api-key-YmVk", "web": "eyJhbGciOi.eyJzdWIi.c2ln", "long-term": "ABSKQmVkcm9ja0FQSUtleQ=="}`+" \x1b[31m\u202e\r\n", accessKeyID, secretKey)
		page = "<html><body>" + strings.Repeat(keys, 30) + "</body></html>"
	)
	const (
		container = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
		metadata  = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
		sts       = "AWS_ENDPOINT_URL_STS"
		sso       = "AWS_ENDPOINT_URL_SSO"
		oidc      = "AWS_ENDPOINT_URL_SSO_OIDC"
		signin    = "AWS_ENDPOINT_URL_SIGNIN"

		theEndpoint = "the container's credentials endpoint "
		theService  = "the EC2 metadata service "

		none     = "no AWS credentials were found|Sign in with aws login or aws sso login, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with -profile."
		region   = "|Give the name of a region, such as us-east-1. It comes from -region, AWS_REGION, AWS_DEFAULT_REGION or the profile."
		correct  = "|Correct it in the environment or in the shared config files."
		source   = "leads back to itself, has no credentials, or signs in with aws login, which the AWS SDK cannot use for a role|After aws login, "
		proxy    = "|AWS gives a reason, so a proxy on the way answered: let it pass requests to AWS."
		later    = "|Try again later."
		network  = "|Check the network and HTTPS_PROXY, or try again later."
		again    = "|Set all values of the same credentials again, with a session token if the access key ID begins with ASIA."
		role     = "|Check the role's ARN and trust policy, and the keys or the web identity token that ask for it."
		pod      = "|Check the role of the task or the pod."
		ssoRole  = "|Give the profile the sso_account_id and sso_role_name of a role that is yours."
		ssoLogin = "|Sign in with aws sso login --profile "
		awsLogin = "|Sign in with aws login --profile "
		bundle   = "|The CA bundle is named by AWS_CA_BUNDLE, which is "
	)
	env := func(pairs ...string) map[string]string {
		set := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			set[pairs[i]] = pairs[i+1]
		}
		return set
	}
	withKeys := func(pairs ...string) map[string]string {
		return env(append([]string{"AWS_ACCESS_KEY_ID", accessKeyID, "AWS_SECRET_ACCESS_KEY", secretKey}, pairs...)...)
	}
	running := env(failToken, "some-server")
	type failure struct {
		env     map[string]string
		profile string
		service string           // the variable that names its URL
		handler http.HandlerFunc // nobody listens if it is nil
		want    string           // how the lines begin, between which | stands
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	home := home(t)
	for name, test := range map[string]failure{
		"no region":        {withKeys("REGION", ""), "", "", nil, "no region is set|Give -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."},
		"wrong region":     {env("REGION", "US-EAST-1"), "", "", nil, `invalid region: "US-EAST-1" is not the name of a region, such as "us-east-1"` + region},
		"wrong AWS_REGION": {env("REGION", "", "AWS_REGION", "us_east_1"), "", "", nil, `invalid region: "us_east_1" is not`},

		"no such profile":          {nil, "nobody", "", nil, `there is no profile "nobody"|Give -profile or AWS_PROFILE the name of one in the shared config files (aws configure list-profiles). In the config file its section is [profile NAME].`},
		"long name":                {nil, strings.Repeat("ü", 1000), "", nil, `there is no profile "üüü`},
		"source_profile missing":   {nil, "role-of-ghost", "", nil, `there is no profile "ghost", which is to be a source_profile|Correct the source_profile`},
		"source_profile itself":    {nil, "role-of-itself", "", nil, `the source_profile "role-of-itself" ` + source},
		"source_profile, login":    {nil, "role-over-login", "", nil, `the source_profile "login" ` + source + "name a source_profile that has credential_process = aws configure export-credentials --profile \"login\" --format process."},
		"role_arn missing":         {nil, "source-alone", "", nil, "cannot load the AWS config: credential type source_profile requires role_arn, profile source-alone" + correct},
		"sso_role_name missing":    {nil, "sso-without-role", "", nil, `cannot load the AWS config: profile "sso-without-role" is configured to use SSO but is missing required configuration: sso_role_name` + correct},
		"sso-session missing":      {nil, "sso-nowhere", "", nil, "cannot load the AWS config: failed to find SSO session section, nowhere" + correct},
		"half a profile":           {nil, "half", "", nil, "cannot load the AWS config: error fetching config from profile, half, Error using profile: 1, partial credentials"},
		"CA bundle":                {withKeys("AWS_CA_BUNDLE", "/does/not/exist.pem"), "", "", nil, "cannot load the AWS config: open /does/not/exist.pem: "},
		"CA bundle of the profile": {nil, "bundle", "", nil, "cannot load the AWS config: open /does/not/exist.pem: "},
		"CA bundle of no use":      {withKeys("AWS_CA_BUNDLE", home["AWS_CONFIG_FILE"]), "", "", nil, "cannot load the AWS config: failed to load custom CA bundle PEM file" + bundle},
		"CA bundle a directory":    {withKeys("AWS_CA_BUNDLE", home["HOME"]), "", "", nil, "cannot load the AWS config: read " + home["HOME"] + ": " + bundle},
		"MFA":                      {nil, "mfa", "", nil, "the profile's role wants an MFA code, which cannot be asked for here|Use aws login, or run eval \"$(aws configure export-credentials --profile \"mfa\" --format env)\" and start again without -profile."},

		"none, disabled":         {nil, "", "", nil, none},
		"none, unreachable":      {nil, "", metadata, nil, none},
		"none, silent":           {nil, "", metadata, silent, none},
		"none, 403":              {nil, "", metadata, answer(403, "", ""), "no AWS credentials were found: the EC2 metadata service answered with status 403 Forbidden|Sign in"},
		"none, running":          {running, "", metadata, answer(403, "", ""), "no AWS credentials were found: the EC2 metadata service answered with status 403 Forbidden|Sign in with aws login or aws sso login, or write keys into the shared credentials file; or restart some-server with -profile or with keys in its environment."},
		"none, role alone":       {nil, "role-alone", "", nil, none},
		"one key":                {env("AWS_SECRET_ACCESS_KEY", secretKey), "", "", nil, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set|Set the other one too."},
		"no session token":       {env("AWS_ACCESS_KEY_ID", "ASIAME", "AWS_SECRET_ACCESS_KEY", secretKey), "", "", nil, "no valid credentials: the session token is missing" + again},
		"keys with a line break": {withKeys("AWS_SECRET_ACCESS_KEY", secretKey+"\n"), "", "", nil, "no valid credentials: the secret access key contains a space, a line break"},
		"keys in quotes":         {withKeys("AWS_SESSION_TOKEN", `"short-session"`), "", "", nil, "no valid credentials: the session token has quotes around it or begins with $: only a shell would replace them|Set it again to the value itself, without the quotes."},
		"keys not expanded":      {withKeys("AWS_ACCESS_KEY_ID", "${AWS_ACCESS_KEY_ID}"), "", "", nil, "no valid credentials: the access key ID |Set it again to the value itself"},
		"expired":                {withKeys("AWS_CREDENTIAL_EXPIRATION", "2020-01-02T03:04:05Z"), "", "", nil, "no valid credentials: the credentials expired at 2020-01-02T03:04:05Z|Get new ones, and a new AWS_CREDENTIAL_EXPIRATION if that is set."},
		"expired, running":       {withKeys("AWS_CREDENTIAL_EXPIRATION", "2020-01-02T03:04:05Z", failToken, "some-server"), "", "", nil, "no valid credentials: the credentials expired at 2020-01-02T03:04:05Z|Get new ones, and a new AWS_CREDENTIAL_EXPIRATION if that is set, and restart some-server if they are in its environment."},
		"unreadable expiration":  {withKeys("AWS_CREDENTIAL_EXPIRATION", "soon"), "", "", nil, `no valid credentials: AWS_CREDENTIAL_EXPIRATION is "soon", not a time such as 2006-01-02T15:04:05Z|Set it to the end of the keys`},
		"process":                {nil, "process", "", nil, "no valid credentials: credential_process: exit status 3|Run the profile's credential_process by hand to see why."},
		"process, expired":       {nil, "process-expired", "", nil, "no valid credentials: "},
		"no web identity":        {env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/team", "AWS_WEB_IDENTITY_TOKEN_FILE", "/does/not/exist"), "", "", nil, "no valid credentials: failed to retrieve jwt from provide source, unable to read file at /does/not/exist: open /does/not/exist: "},

		"STS, another authority": {env(sts, secure.URL), "role", "", nil, "STS cannot be reached: tls: failed to verify certificate: |If a proxy on the way has a certificate authority of its own, name its file in AWS_CA_BUNDLE"},
		"STS, unreachable":       {nil, "role", sts, nil, "STS cannot be reached: dial tcp " + network},
		"STS, a page":            {nil, "role", sts, answer(500, "text/html", page), "STS answered with status 500 Internal Server Error" + later},
		"STS, nothing":           {nil, "role", sts, answer(407, "", ""), "STS answered with status 407 Proxy Authentication Required" + proxy},
		"STS, 200 and a page":    {nil, "role", sts, answer(200, "text/html", "<p>Sign in &nbsp;"), "no valid credentials: operation error STS: AssumeRole, "},
		"STS, denied":            {nil, "role", sts, denied("AccessDenied", "not authorized to perform: sts:AssumeRole"), "STS answered: AccessDenied: not authorized to perform: sts:AssumeRole" + role},
		"STS, throttled":         {nil, "role", sts, denied("Throttling", "Rate exceeded"), "STS answered: Throttling: Rate exceeded" + later},
		"STS quotes a key":       {nil, "role", sts, denied("AccessDenied", secretKey), "STS answered: AccessDenied: ***" + role},
		"STS quotes a request":   {nil, "role", sts, denied("SignatureDoesNotMatch", "GET X-Amz-Security-Token=short-session"), "STS answered: SignatureDoesNotMatch: GET X-Amz-***" + role},

		"container, a page":         {nil, "", container, answer(403, "text/html", page), theEndpoint + "answered with status 403 Forbidden" + pod},
		"container, not JSON":       {nil, "", container, answer(404, "application/json", page), "no valid credentials: the container's credentials endpoint, deserialization failed, "},
		"container, 200 and a page": {nil, "", container, answer(200, "text/html", page), "no valid credentials: the container's credentials endpoint, deserialization failed, "},
		"container, keys in JSON":   {nil, "", container, refusal(400, "Denied", keys), theEndpoint + "answered: Denied: {"},
		"container, long JSON":      {nil, "", container, refusal(400, "Denied", strings.Repeat("no ", 2000)), theEndpoint + "answered: Denied: no no no "},
		"container below a role":    {nil, "role-over-ecs", container, refusal(400, "Denied", "no"), theEndpoint + "answered: Denied: no" + pod},

		"EC2, 429":               {nil, "", metadata, answer(429, "", ""), theService + "answered with status 429 Too Many Requests" + later},
		"EC2, role refused":      {nil, "", metadata, ec2(team, answer(200, "", `{"Code": "Denied", "Message": "ask later"}`)), theService + "answered: Denied: ask later|"},
		"EC2, a page for a role": {nil, "", metadata, ec2(answer(200, "text/html", keys), nil), "no "},
		"EC2 below a role":       {nil, "role-over-ec2", metadata, answer(403, "", ""), "no AWS credentials were found: the EC2 metadata service answered with status 403 Forbidden|Sign in"},

		"SSO, unreachable":       {nil, "sso", sso, nil, "SSO cannot be reached: dial tcp " + network},
		"SSO, 503":               {nil, "sso", sso, refusal(503, "ServiceUnavailableException", "no"), "SSO answered: ServiceUnavailableException: no" + later},
		"SSO, 429":               {nil, "sso", sso, refusal(429, "TooManyRequestsException", "slow"), "SSO answered: TooManyRequestsException: slow" + later},
		"SSO, a page of a proxy": {nil, "sso", sso, answer(403, "text/html", page), "SSO answered with status 403 Forbidden" + proxy},
		"SSO, a page":            {nil, "sso", sso, answer(500, "text/html", page), "SSO answered with status 500 Internal Server Error" + later},
		"SSO, 401":               {nil, "sso", sso, refusal(401, "UnauthorizedException", "Session token not found or invalid"), "SSO answered: UnauthorizedException: Session token not found or invalid" + ssoLogin + `"sso".`},
		"SSO, 403":               {nil, "sso", sso, refusal(403, "ForbiddenException", "No access"), "SSO answered: ForbiddenException: No access" + ssoRole},
		"SSO below a role":       {nil, "role-over-sso", sso, refusal(401, "UnauthorizedException", "no"), `SSO answered: UnauthorizedException: no|Sign in with aws sso login, for the source_profile of "role-over-sso".`},
		"SSO, never signed in":   {nil, "sso-never", "", nil, "no valid credentials: the SSO session has expired or is invalid: failed to read cached SSO token file, open " + ssoLogin},
		"SSO, session ended":     {nil, "sso-ended", sso, nil, "no valid credentials: the SSO session has expired or is invalid" + ssoLogin + `"sso-ended".`},
		"OIDC, unreachable":      {nil, "sso-expired", oidc, nil, "SSO OIDC cannot be reached: dial tcp " + network},
		"OIDC, 429":              {nil, "sso-expired", oidc, refusal(429, "SlowDownException", "no"), "SSO OIDC answered: SlowDownException" + later},
		"OIDC, session ended":    {nil, "sso-expired", oidc, refusal(400, "InvalidGrantException", ""), "SSO OIDC answered: InvalidGrantException" + ssoLogin + `"sso-expired".`},

		"sign-in, never":         {nil, "login-never", "", nil, "no valid credentials: load login token: token file not found, please reauthenticate" + awsLogin + `"login-never".`},
		"sign-in, 503":           {nil, "login", signin, refusal(503, "InternalServerException", "no"), "Signin answered: InternalServerException: no" + later},
		"sign-in, 429":           {nil, "login", signin, refusal(429, "TooManyRequestsError", "no"), "Signin answered: TooManyRequestsError: no" + later},
		"sign-in, refused":       {nil, "login", signin, refusal(400, "ValidationException", "no"), "Signin answered: ValidationException: no" + awsLogin + `"login".`},
		"sign-in, session ended": {nil, "login", signin, answer(403, "application/json", `{"error": "TOKEN_EXPIRED", "__type": "x#AccessDeniedException"}`), "no valid credentials: create oauth2 token: login session has expired, please reauthenticate" + awsLogin + `"login".`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "http://127.0.0.1:1" // where nobody listens
			if test.handler != nil {
				server := httptest.NewServer(test.handler)
				defer server.Close()
				url = server.URL
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, os.Args[0])
			env := maps.Clone(home)
			maps.Copy(env, map[string]string{"AWS_PROFILE": test.profile, "AWS_EC2_METADATA_DISABLED": strconv.FormatBool(test.service != metadata)})
			if test.service != "" {
				env[test.service] = url
			}
			maps.Copy(env, test.env)
			command.Env = os.Environ()
			for name, value := range env {
				command.Env = append(command.Env, name+"="+value)
			}
			output, err := command.CombinedOutput()
			if err != nil {
				t.Fatal(err)
			}
			got := string(output)

			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if len(lines) != 2 || len(lines[0]) > 400 || len(lines[1]) > 400 || !utf8.ValidString(got) {
				t.Fatalf("not two lines, or long ones:\n%s", got)
			}
			for i, want := range strings.Split(test.want, "|") {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is\n%s\nand does not begin with\n%s", i+1, lines[i], want)
				}
			}
			if strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("not to be printed: %q", got)
			}
			for _, secret := range []string{"short/secret", "short-session", "old-session", secretKey, "YmVk", "c2ln", "ABSK"} {
				if strings.Contains(got, secret) {
					t.Errorf("%q is shown:\n%s", secret, got)
				}
			}
		})
	}
}

// Others than the services and the files above: a terminal, a disk, anything.
func TestOtherErrors(t *testing.T) {
	unsaved := &smithy.OperationError{ServiceID: "Signin", Err: &fs.PathError{Op: "open", Path: "/" + strings.Repeat("home/", 20) + "x.json", Err: fs.ErrPermission}}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("no MFA code was given"), "no MFA code was given\nRun it in a terminal and type the code."},
		{unsaved, unsaved.Error() + "\nLet this user read and write the file and its directory, or run eval \"$(aws configure export-credentials --profile \"default\" --format env)\" and start again without -profile."},
		{errors.New("the access key ID and the secret access key seem to be swapped"), "the access key ID and the secret access key seem to be swapped\nSwap their values."},
		{errors.New("login session has expired"), "login session has expired\nSign in with aws login."},
		{errors.New("a\x1b[31m\r\n\u202eb"), "a [31m b"},
	} {
		if got := explain.Error(test.err, ""); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
