package main

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
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/internal/testenv"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const (
	accessKeyID = "AKIAIOSFODNN7EXAMPLE"
	secretKey   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	runMain     = "BEDROCK_TOKEN_TEST_RUNS_MAIN"
)

// Asked to, the test binary is the command.
func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	os.Exit(testenv.Main(m))
}

type result struct {
	stdout, stderr string
	status         int
}

func runWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	status := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return result{stdout.String(), stderr.String(), status}
}

// runCommand runs the command as a process of its own, with an environment that
// others can run beside.
func runCommand(t *testing.T, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], args...)
	command.Env = append(os.Environ(), runMain+"=yes")
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	var stdout, stderr strings.Builder
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := command.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Error(err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

func accept(t *testing.T, token, region, accessKeyID, secretKey string) verify.Token {
	t.Helper()
	verified, err := verify.Service{Region: region, Secret: func(id, _ string) (string, error) {
		if id != accessKeyID {
			return "", fmt.Errorf("not %s", accessKeyID)
		}
		return secretKey, nil
	}}.Verify(token)
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	return verified
}

func TestToken(t *testing.T) {
	testenv.WriteConfig(t, `
[profile team]
region = eu-central-1
aws_access_key_id = AKIATEAM
aws_secret_access_key = team/secret
`)
	testenv.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	tests := map[string]struct {
		env                map[string]string
		args               []string
		region, id, secret string
		expiry             time.Duration
	}{
		"no arguments":       {map[string]string{"AWS_REGION": "us-west-2"}, nil, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
		"all":                {nil, []string{"-region", "us-east-1", "-profile", "team", "-expiry", "1h"}, "us-east-1", "AKIATEAM", "team/secret", time.Hour},
		"two dashes":         {nil, []string{"--region=us-east-1", "--expiry=90s"}, "us-east-1", accessKeyID, secretKey, 90 * time.Second},
		"profile's region":   {nil, []string{"-profile", "team"}, "eu-central-1", "AKIATEAM", "team/secret", 12 * time.Hour},
		"empty values":       {map[string]string{"AWS_REGION": "us-west-2"}, []string{"-region", "", "-profile", ""}, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
		"stale bearer token": {map[string]string{"AWS_REGION": "us-west-2", "AWS_BEARER_TOKEN_BEDROCK": "stale"}, nil, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, test.env)
			plain := runWith(t, "", test.args...)
			token, ok := strings.CutSuffix(plain.stdout, "\n")
			if plain.status != 0 || plain.stderr != "" || !ok || strings.ContainsAny(token, "\r\n ") {
				t.Fatalf("got %+v, want one line on standard output and no more", plain)
			}
			if verified := accept(t, token, test.region, test.id, test.secret); verified.Expiry != test.expiry {
				t.Errorf("signed for %v, want %v", verified.Expiry, test.expiry)
			}

			asJSON := runWith(t, "", append(test.args, "-json")...)
			var fields map[string]string
			if err := json.Unmarshal([]byte(asJSON.stdout), &fields); err != nil || asJSON.status != 0 || asJSON.stderr != "" || len(fields) != 3 {
				t.Fatalf("got %+v, error %v", asJSON, err)
			}
			verified := accept(t, fields["token"], test.region, test.id, test.secret)
			if want := verified.SigningTime.Add(test.expiry).Format("2006-01-02T15:04:05Z"); fields["expiration"] != want || fields["region"] != test.region {
				t.Errorf("expiration %s in %s, want %s in %s", fields["expiration"], fields["region"], want, test.region)
			}
		})
	}
}

// Of credentials that expire before the token, it is their expiration that counts.
func TestExpirationOfCredentials(t *testing.T) {
	expiration := time.Now().UTC().Add(2 * time.Minute).Truncate(time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"AccessKeyId": accessKeyID, "SecretAccessKey": secretKey, "Token": "session", "Expiration": expiration})
	}))
	defer server.Close()
	for name, env := range map[string]map[string]string{
		"container":   {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL},
		"environment": {"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_CREDENTIAL_EXPIRATION": expiration.Format(time.RFC3339)},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, env)
			got := runWith(t, "", "-json", "-region", "us-east-1")
			if want := `"expiration":"` + expiration.Format(time.RFC3339) + `"`; got.status != 0 || !strings.Contains(got.stdout, want) {
				t.Errorf("got %+v, want %s", got, want)
			}
		})
	}
}

// serveSTS starts an STS that gives a role the access key ID which assume returns,
// or refuses it if that is empty.
func serveSTS(t *testing.T, assume func(serialNumber, code string) (accessKeyID string)) {
	sts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		accessKeyID := assume(r.FormValue("SerialNumber"), r.FormValue("TokenCode"))
		if accessKeyID == "" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>MultiFactorAuthentication failed,
				invalid MFA one time pass code.</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>role/secret</SecretAccessKey>
			<SessionToken>session</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			accessKeyID, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	sts.Config.SetKeepAlivesEnabled(false) // an idle connection would outlive a bubble
	sts.Start()
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
}

const mfaConfig = `
[profile team]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/team
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile me]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
[profile nowhere]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/me
`

const prompt = "MFA code for arn:aws:iam::123456789012:mfa/me: "

func TestMFA(t *testing.T) {
	serveSTS(t, func(serialNumber, code string) string {
		if serialNumber == "arn:aws:iam::123456789012:mfa/me" && code == "123456" {
			return "ASIAROLE"
		}
		return ""
	})
	testenv.WriteConfig(t, mfaConfig)
	for _, typed := range []string{"123456\n", " 123456 \r\n", "123456"} {
		got := runWith(t, typed, "-profile", "team", "-region", "eu-west-1", "-expiry", "30m")
		if got.status != 0 || got.stderr != prompt {
			t.Fatalf("got %+v", got)
		}
		if verified := accept(t, strings.TrimSpace(got.stdout), "eu-west-1", "ASIAROLE", "role/secret"); verified.Expiry != 30*time.Minute {
			t.Errorf("signed for %v, want 30m", verified.Expiry)
		}
	}
	for typed, says := range map[string]string{
		"":         "\nbedrock-token: no MFA code was given\nRun it in a terminal and type the code.\n",
		"\n":       "\nbedrock-token: no MFA code was given\nRun it in a terminal and type the code.\n",
		"000000\n": "bedrock-token: STS answered: AccessDenied: MultiFactorAuthentication failed, invalid MFA one time pass code.\n",
	} {
		got := runWith(t, typed, "-profile", "team")
		if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, prompt) || !strings.Contains(got.stderr, says) || strings.Count(got.stderr, "\n") > 3 {
			t.Errorf("typed %q: got %+v, want %q", typed, got, says)
		}
	}

	asJSON := runWith(t, "123456", "-profile", "team", "-json")
	var fields struct{ Expiration time.Time }
	if err := json.Unmarshal([]byte(asJSON.stdout), &fields); err != nil {
		t.Fatalf("got %+v, error %v", asJSON, err)
	}
	if left := time.Until(fields.Expiration); left < 59*time.Minute || left > time.Hour {
		t.Errorf("expires in %v, want the hour that the role's credentials have", left)
	}
	// What can be seen to be wrong is, before anybody types.
	for _, test := range []struct {
		status int
		says   string
		args   []string
	}{
		{1, "no region is set", []string{"-profile", "nowhere"}},
		{2, "us east", []string{"-profile", "team", "-region", "us east"}},
		{2, "13h0m0s", []string{"-profile", "team", "-expiry", "13h"}},
	} {
		got := runWith(t, "123456\n", test.args...)
		if got.status != test.status || got.stdout != "" || !strings.Contains(got.stderr, test.says) || strings.Contains(got.stderr, prompt) {
			t.Errorf("%v: got %+v, want status %d and %q", test.args, got, test.status, test.says)
		}
	}
}

// A person may take an hour to find the device that shows the code.
func TestMFAUnhurried(t *testing.T) {
	serveSTS(t, func(_, code string) string { return "ASIA" + code })
	testenv.WriteConfig(t, mfaConfig)
	synctest.Test(t, func(t *testing.T) {
		stdin, terminal := io.Pipe()
		go func() {
			time.Sleep(time.Hour)
			fmt.Fprintln(terminal, "123456")
		}()
		var stdout, stderr strings.Builder
		if status := run(t.Context(), []string{"-profile", "team"}, stdin, &stdout, &stderr); status != 0 {
			t.Fatalf("status %d: %s", status, stderr.String())
		}
		accept(t, strings.TrimSpace(stdout.String()), "us-east-1", "ASIA123456", "role/secret")
	})
}

// Profiles that give no credentials, most of them because something is wrong.
const faulty = `
[profile keys]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
[profile half]
region = us-east-1
aws_access_key_id = AKIAME
[profile bad-region]
region = us_east_1
aws_access_key_id = AKIAME
aws_secret_access_key = secret
[profile role]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/team
source_profile = keys
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

func TestFailures(t *testing.T) {
	testenv.WriteConfig(t, faulty)
	keys := map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey}
	expiring := func(at string) map[string]string {
		return map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_CREDENTIAL_EXPIRATION": at}
	}
	tests := map[string]struct {
		env    map[string]string
		args   []string
		status int
		says   []string
	}{
		"no region":             {keys, nil, 1, []string{"no region", "-region", "AWS_REGION"}},
		"bad region in profile": {nil, []string{"-profile", "bad-region"}, 1, []string{`"us_east_1"`, "-region"}},
		"no credentials":        {nil, []string{"-region", "us-east-1"}, 1, []string{"no AWS credentials", "AWS_ACCESS_KEY_ID", "-profile"}},
		"half the keys":         {map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID}, []string{"-region", "us-east-1"}, 1, []string{"only one of", "AWS_SECRET_ACCESS_KEY"}},
		"role without a source": {nil, []string{"-profile", "sourceless"}, 1, []string{"no AWS credentials"}},
		"line break in secret":  {map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey + "\n"}, []string{"-region", "us-east-1"}, 1, []string{"secret access key contains", "line break"}},
		"no such profile":       {nil, []string{"-profile", "nobody"}, 1, []string{`"nobody"`, "-profile"}},
		"no such AWS_PROFILE":   {map[string]string{"AWS_PROFILE": "nobody"}, nil, 1, []string{`"nobody"`, "AWS_PROFILE"}},
		"half a profile":        {nil, []string{"-profile", "half"}, 1, []string{"partial credentials"}},
		"no network":            {map[string]string{"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, []string{"-profile", "role"}, 1, []string{"STS cannot be reached", "127.0.0.1:1"}},
		"failing process":       {nil, []string{"-profile", "process"}, 1, []string{"credential_process", "3"}},
		"no SSO session":        {nil, []string{"-profile", "sso"}, 1, []string{"aws sso login"}},
		"no old SSO session":    {nil, []string{"-profile", "old-sso"}, 1, []string{"aws sso login"}},
		"no login session":      {nil, []string{"-profile", "login"}, 1, []string{"aws login"}},
		"bad AWS_REGION":        {map[string]string{"AWS_REGION": "us_east_1"}, nil, 1, []string{`"us_east_1"`, "AWS_REGION"}},
		"expired":               {expiring("2020-01-02T03:04:05Z"), []string{"-region", "us-east-1"}, 1, []string{"expired at 2020-01-02T03:04:05Z"}},
		"unreadable expiration": {expiring("soon"), []string{"-region", "us-east-1"}, 1, []string{`AWS_CREDENTIAL_EXPIRATION is "soon"`}},

		"expiry seen first": {nil, []string{"-expiry", "13h", "-profile", "ghost"}, 2, []string{"13h0m0s", "1s to 12h"}},
		"region seen first": {nil, []string{"-region", "us east", "-profile", "ghost"}, 2, []string{`"us east"`}},
		"bad region":        {keys, []string{"-region", "us east"}, 2, []string{`"us east"`, "us-east-1"}},
		"expiry too long":   {keys, []string{"-region", "us-east-1", "-expiry", "12h1s"}, 2, []string{"12h0m1s", "1s to 12h"}},
		"expiry of 0":       {keys, []string{"-region", "us-east-1", "-expiry", "0"}, 2, []string{"0s", "1s to 12h"}},
		"expiry of no unit": {keys, []string{"-region", "us-east-1", "-expiry", "3600"}, 2, []string{`"3600"`, "-h"}},
		"unknown flag":      {keys, []string{"-regoin", "us-east-1"}, 2, []string{"-regoin", "-h"}},
		"no value":          {keys, []string{"-region"}, 2, []string{"-region", "-h"}},
		"odd flag":          {keys, []string{"-a\nb\r\nc"}, 2, []string{"-a b c", "-h"}},
		"long argument":     {keys, []string{strings.Repeat("x", 1000)}, 2, []string{`"xxx`, "-h"}},
		"argument, version": {keys, []string{"-version", "x"}, 2, []string{`"x"`, "-h"}},
		"argument":          {keys, []string{"us-east-1"}, 2, []string{`"us-east-1"`, "-h"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.Set(t, test.env)
			got := runWith(t, "", test.args...)
			if got.status != test.status || got.stdout != "" {
				t.Errorf("got %+v, want status %d and nothing on standard output", got, test.status)
			}
			if lines := strings.Count(got.stderr, "\n"); lines < 1 || lines > 2 || len(got.stderr) > 400 {
				t.Errorf("not one or two lines:\n%s", got.stderr)
			}
			for _, part := range test.says {
				if !strings.Contains(got.stderr, part) {
					t.Errorf("%q is not in:\n%s", part, got.stderr)
				}
			}
			if strings.Contains(got.stderr, secretKey) {
				t.Errorf("a secret is shown:\n%s", got.stderr)
			}
		})
	}
}

// What is wrong in the settings is named, and nothing else is suggested.
func TestWrongSettings(t *testing.T) {
	testenv.WriteConfig(t, faulty)
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
			testenv.Set(t, test.env)
			got := runWith(t, "", "-region", "us-east-1", "-profile", test.profile)
			if want := (result{"", "bedrock-token: " + test.want, 1}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// writeHome makes a home directory for runCommand in which a person has signed in
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
	write(filepath.Join(home, "config"), faulty+mfaConfig+`
[profile container]
role_arn = arn:aws:iam::123456789012:role/team
credential_source = EcsContainer
[profile ec2]
role_arn = arn:aws:iam::123456789012:role/team
credential_source = Ec2InstanceMetadata
[profile ec2-mfa]
role_arn = arn:aws:iam::123456789012:role/team
credential_source = Ec2InstanceMetadata
mfa_serial = arn:aws:iam::123456789012:mfa/me
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
		"STS, silent, with MFA":      {sts, silent, "team", "STS did not answer\n"},
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
		"EC2 below a role with MFA": {metadata, answer(403, "", ""), "ec2-mfa", theService + "answered with status 403 Forbidden\n" + set},
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
	run := func(t *testing.T, test failure) result {
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
		return runCommand(t, env, "123456\n")
	}
	check := func(t *testing.T, test failure, got result) {
		if got.status != 1 || got.stdout != "" {
			t.Errorf("got %+v, want status 1 and nothing on standard output", got)
		}
		said := strings.TrimPrefix(got.stderr, prompt)
		want, begins := strings.CutSuffix("bedrock-token: "+test.want, "...")
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

	results := make(map[string]chan result)
	for name, test := range slow {
		got := make(chan result, 1)
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

func TestHelpAndVersion(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		got := runWith(t, "", flag)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%s: got %+v", flag, got)
		}
		for _, part := range []string{"export AWS_BEARER_TOKEN_BEDROCK=$(bedrock-token)", "-region us-east-1 -profile team -expiry 1h", "-json", "-version"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("%s: %q is not in:\n%s", flag, part, got.stdout)
			}
		}
	}
	got := runWith(t, "", "-version")
	if got.status != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "bedrock-token ") || !strings.HasSuffix(got.stdout, " "+runtime.Version()+"\n") {
		t.Errorf("-version: got %+v", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenOutput(t *testing.T) {
	testenv.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": "us-east-1"})
	for _, args := range [][]string{nil, {"-json"}, {"-version"}} {
		var stderr strings.Builder
		if status := run(t.Context(), args, strings.NewReader(""), brokenWriter{}, &stderr); status != 1 || !strings.Contains(stderr.String(), "broken pipe") {
			t.Errorf("%v: status %d, %q", args, status, stderr.String())
		}
	}
}

// Two roles that each ask for a code, and both codes in one go.
func TestTwoMFACodes(t *testing.T) {
	serveSTS(t, func(_, code string) string { return "ASIA" + code })
	testenv.WriteConfig(t, `
[profile outer]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/outer
source_profile = inner
mfa_serial = arn:aws:iam::123456789012:mfa/outer
[profile inner]
role_arn = arn:aws:iam::123456789012:role/inner
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/inner
[profile me]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
`)
	got := runWith(t, "111111\n222222\n", "-profile", "outer")
	if got.status != 0 || strings.Count(got.stderr, "MFA code for ") != 2 {
		t.Fatalf("got %+v", got)
	}
	last := "ASIA222222"
	if strings.Index(got.stderr, "mfa/outer") < strings.Index(got.stderr, "mfa/inner") {
		last = "ASIA111111" // the outer role asked first
	}
	accept(t, strings.TrimSpace(got.stdout), "us-east-1", last, "role/secret")
}

// Ctrl-C ends the command while a source hangs, and while it waits for a code.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // where a program cannot send Ctrl-C to another
	}
	asked := make(chan struct{}, 1)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	testenv.WriteConfig(t, `
[profile team]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile me]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
`)
	testenv.Set(t, map[string]string{"AWS_REGION": "us-east-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, runMain: "yes"})

	interrupt := func(t *testing.T, waiting func(ctx context.Context, stderr io.Reader), args ...string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, os.Args[0], args...)
		if _, err := command.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		stderr, err := command.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stdout strings.Builder
		command.Stdout = &stdout
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		waiting(ctx, stderr)
		if err := command.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, stderr)
		if err := command.Wait(); err == nil || ctx.Err() != nil || stdout.String() != "" {
			t.Errorf("error %v, standard output %q", errors.Join(err, ctx.Err()), stdout.String())
		}
	}
	t.Run("source hangs", func(t *testing.T) {
		interrupt(t, func(ctx context.Context, _ io.Reader) {
			select {
			case <-asked:
			case <-ctx.Done():
				t.Error("the source was not asked")
			}
		})
	})
	t.Run("code awaited", func(t *testing.T) {
		interrupt(t, func(_ context.Context, stderr io.Reader) {
			if _, err := io.ReadFull(stderr, make([]byte, len("MFA code for"))); err != nil {
				t.Error(err)
			}
		}, "-profile", "team")
	})
}
