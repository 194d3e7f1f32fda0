package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// A region has to have the form that AWS's names have, since it becomes part of an
// address. Anything else is ErrRegion, before a credential is retrieved.
func TestRegionIsChecked(t *testing.T) {
	for _, region := range []string{
		"us-east-1", "ap-northeast-3", "us-gov-west-1", "us-isob-east-1", "us-iso-east-1", "eusc-de-east-1", "mx-central-1", "us-east-11",
		strings.Repeat("a", 59) + "-b-1",
	} {
		t.Run(region, func(t *testing.T) {
			provider := newProvider(t, static(accessKeyID, secretKey, ""), bedrocktoken.WithRegion(region))
			signedBy(t, tokenOf(t, provider), region, longTerm)
		})
	}
	good := newProvider(t, static(accessKeyID, secretKey, ""))
	for _, region := range []string{
		"us-east-1a", "useast1", "nowhere", "local", "s3", "us-east", "us-1", "1-east-1", "us-east-1-", "us-2-1", "us-east1", "aws-global",
		" ", " us-east-1", "us-east-1 ", "us east 1", "us-east-1\n", "\tus-east-1", "us-east-1\x00", "us\r\neast",
		"us-east-1/bedrock", "us-east-1&x=y", "us-east-1?x", "us-east-1#", "us.east.1", "us_east_1", "us-east-1,us-west-2",
		"US-EAST-1", "us-East-1", "-us-east-1", "us--east-1", "-", "--",
		"us-éast-1", "us-east-１", "us\u2010east\u20101", "\xff\xfe", "%75s-east-1",
		strings.Repeat("a", 60) + "-b-1", strings.Repeat("us-", 100000),
	} {
		t.Run(fmt.Sprintf("%.30q", region), func(t *testing.T) {
			source := awstest.NewSource(func(context.Context) (aws.Credentials, error) { return longTerm, nil })
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source))
			other, otherErr := good.ForRegion(region)
			if token != "" || other != nil || source.Calls() != 0 {
				t.Errorf("got %q and %v after %d retrievals", token, other, source.Calls())
			}
			for function, err := range map[string]error{"ProvideToken": err, "ForRegion": otherErr} {
				shown := fmt.Sprintf("%.20q", region)
				if !errors.Is(err, bedrocktoken.ErrRegion) || !strings.Contains(err.Error(), shown[:len(shown)-1]) || len(err.Error()) > 1000 {
					t.Errorf("%s: error %v, want ErrRegion that shows the value", function, err)
				}
			}
		})
	}
}

// The region is that of WithRegion, else of AWS_REGION, of AWS_DEFAULT_REGION or of
// the profile. Tokens are signed for it, and Region returns it.
func TestRegionPrecedence(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
region = default-profile-1
[profile team]
region = team-profile-1
aws_access_key_id = team
aws_secret_access_key = secret
[profile mfa]
region = mfa-profile-1
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
`)
	given := bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, ""))
	for name, test := range map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":     {nil, nil, "default-profile-1"},
		"AWS_PROFILE":         {map[string]string{"AWS_PROFILE": "team"}, nil, "team-profile-1"},
		"WithProfile":         {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "team-profile-1"},
		"role is not assumed": {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("mfa")}, "mfa-profile-1"},
		"empty WithProfile":   {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("")}, "default-profile-1"},
		"AWS_DEFAULT_REGION":  {map[string]string{"AWS_DEFAULT_REGION": "default-env-1"}, nil, "default-env-1"},
		"AWS_REGION":          {map[string]string{"AWS_DEFAULT_REGION": "default-env-1", "AWS_REGION": "from-env-1"}, nil, "from-env-1"},
		"env before profile":  {map[string]string{"AWS_REGION": "from-env-1"}, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-env-1"},
		"WithRegion":          {map[string]string{"AWS_REGION": "from-env-1"}, []bedrocktoken.Option{bedrocktoken.WithRegion("as-given-1")}, "as-given-1"},
		"empty WithRegion":    {map[string]string{"AWS_REGION": "from-env-1"}, []bedrocktoken.Option{bedrocktoken.WithRegion("")}, "from-env-1"},
		"the last counts":     {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("the-one-1"), nil, bedrocktoken.WithRegion("the-two-2")}, "the-two-2"},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			provider := newDefault(t, append(test.opts, given)...)
			signedBy(t, tokenOf(t, provider), test.want, longTerm)
			if got := provider.Region(); got != test.want {
				t.Errorf("Region returns %q, want %q", got, test.want)
			}
		})
	}

	for name, test := range map[string]struct {
		config string
		env    map[string]string
		opts   []bedrocktoken.Option
		says   []string
		want   error // ErrRegion if nil
	}{
		"none":                         {says: []string{"WithRegion", "AWS_REGION", "AWS_DEFAULT_REGION", "profile"}},
		"bad AWS_REGION":               {env: map[string]string{"AWS_REGION": "US East"}, says: []string{`"US East"`}},
		"bad region of profile":        {config: "[default]\nregion = us_east_1\n", says: []string{`"us_east_1"`}},
		"good environment, bad option": {env: map[string]string{"AWS_REGION": region}, opts: []bedrocktoken.Option{bedrocktoken.WithRegion("x y")}, says: []string{`"x y"`}},
		"profile that is not there":    {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_REGION": region, "AWS_PROFILE": "nobody"}, says: []string{"cannot load the AWS config", "nobody"}},
		"profile with a long name":     {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_PROFILE": "\x1b" + strings.Repeat("y", 5000)}, says: []string{"cannot load the AWS config"}},
		"unreadable AWS_CA_BUNDLE":     {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"cannot load the AWS config", "/does/not/exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.WriteConfig(t, test.config)
			awstest.Set(t, test.env)
			token, err := bedrocktoken.ProvideToken(t.Context(), append(test.opts, given)...)
			want := cmp.Or(test.want, bedrocktoken.ErrRegion)
			for _, kind := range []error{bedrocktoken.ErrRegion, bedrocktoken.ErrCredentials} {
				if errors.Is(err, kind) != (kind == want) || token != "" {
					t.Fatalf("got %q and error %v, want %v", token, err, want)
				}
			}
			if missing := new(config.SharedConfigProfileNotExistError); test.env["AWS_PROFILE"] != "" && !errors.As(err, missing) {
				t.Errorf("error %v hides its cause", err)
			}
			if text := err.Error(); len(text) > 600 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("error is %q", text)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

// The credentials are those of WithCredentialsProvider, else of WithProfile, of the
// environment or of the profile. What is found and does not work is an error: the
// search does not go on to another identity.
func TestCredentialsPrecedence(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
aws_access_key_id = from-default-profile
aws_secret_access_key = secret
[profile team]
aws_access_key_id = from-team-profile
aws_secret_access_key = secret
[profile half]
aws_access_key_id = half
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile process]
credential_process = exit 1
`)
	env := map[string]string{"AWS_ACCESS_KEY_ID": "from-env", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_BEARER_TOKEN_BEDROCK": "not read"}
	given := bedrocktoken.WithCredentialsProvider(static("given", "secret", ""))
	for name, test := range map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":         {nil, nil, "from-default-profile"},
		"AWS_PROFILE":             {map[string]string{"AWS_PROFILE": "team"}, nil, "from-team-profile"},
		"environment":             {env, nil, "from-env"},
		"WithProfile before env":  {env, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile"},
		"given":                   {env, []bedrocktoken.Option{given}, "given"},
		"given, and profile":      {nil, []bedrocktoken.Option{given, bedrocktoken.WithProfile("team")}, "given"},
		"nil":                     {env, []bedrocktoken.Option{bedrocktoken.WithCredentialsProvider(nil)}, "from-env"},
		"nil takes back":          {env, []bedrocktoken.Option{given, bedrocktoken.WithCredentialsProvider(nil)}, "from-env"},
		"half in the environment": {map[string]string{"AWS_ACCESS_KEY_ID": "half"}, nil, "from-default-profile"},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			signedBy(t, tokenOf(t, newProvider(t, nil, test.opts...)), region, aws.Credentials{AccessKeyID: test.want, SecretAccessKey: "secret"})
		})
	}
	for name, says := range map[string]string{"nobody": "nobody", "half": "", "mfa": "MFA", "process": "process"} {
		t.Run("broken profile "+name, func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(name))
			if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" || !strings.Contains(err.Error(), says) {
				t.Fatalf("got %q and error %v, want ErrCredentials that says %q", token, err, says)
			}
		})
	}

	// A source that cannot be called is a mistake, for which the default chain would
	// be another identity.
	for name, source := range map[string]aws.CredentialsProvider{
		"nil pointer":          (*credentials.StaticCredentialsProvider)(nil),
		"nil cache":            (*aws.CredentialsCache)(nil),
		"nil func":             aws.CredentialsProviderFunc(nil),
		"nil map":              mapSource(nil),
		"empty cache":          new(aws.CredentialsCache),
		"cache around nothing": aws.NewCredentialsCache(nil),
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, env)
			for _, region := range []string{region, ""} {
				provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source))
				if !errors.Is(err, bedrocktoken.ErrCredentials) || provider != nil {
					t.Errorf("got %v and error %v, want ErrCredentials", provider, err)
				}
			}
		})
	}
}

type mapSource map[string]string

func (mapSource) Retrieve(context.Context) (aws.Credentials, error) { panic("called") }

// An expiry from 1 second to 12 hours is what the token is signed for, in whole
// seconds, and the default is 12 hours. Anything else is ErrExpiry.
func TestExpiryIsChecked(t *testing.T) {
	for _, expiry := range []time.Duration{
		time.Second, time.Second + 1, 2*time.Second - 1, time.Minute, 12*time.Hour - 1, 12 * time.Hour,
	} {
		t.Run(expiry.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1999 * time.Millisecond) // since a token has whole seconds only
				provider := newProvider(t, static(accessKeyID, secretKey, ""), bedrocktoken.WithExpiry(expiry))
				token, err := provider.RetrieveBearerToken(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				verified := signedBy(t, token.Value, region, longTerm)
				if want := expiry.Truncate(time.Second); verified.Expiry != want {
					t.Errorf("signed for %v, want %v", verified.Expiry, want)
				}
				if want := verified.SigningTime.Add(verified.Expiry); !token.CanExpire || !token.Expires.Equal(want) {
					t.Errorf("said to expire at %v, want %v", token.Expires, want)
				}
			})
		})
	}
	for _, expiry := range []time.Duration{
		0, time.Second - 1, -1, -12 * time.Hour, 12*time.Hour + 1, 1<<63 - 1, -1 << 63, time.Duration(3600),
	} {
		t.Run(expiry.String(), func(t *testing.T) {
			provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithExpiry(expiry))
			if !errors.Is(err, bedrocktoken.ErrExpiry) || provider != nil {
				t.Fatalf("got %v and error %v, want ErrExpiry", provider, err)
			}
			for _, part := range []string{expiry.String(), "1s", "12h0m0s"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error does not show %s: %v", part, err)
				}
			}
		})
	}
	t.Run("default", func(t *testing.T) {
		token := tokenOf(t, newProvider(t, static(accessKeyID, secretKey, "")))
		if got := signedBy(t, token, region, longTerm).Expiry; got != 12*time.Hour {
			t.Errorf("signed for %v, want 12 hours", got)
		}
	})
}
