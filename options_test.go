package bedrocktoken_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// A region has to be a DNS label, since it becomes part of an address. Anything
// else is ErrRegion, before a credential is retrieved.
func TestRegionIsChecked(t *testing.T) {
	valid := []string{
		"us-east-1", "ap-northeast-3", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1", "mx-central-1",
		"local", "9", strings.Repeat("a", 63),
	}
	for _, region := range valid {
		t.Run(region, func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(),
				bedrocktoken.WithRegion(region),
				bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")))
			if err != nil {
				t.Fatal(err)
			}
			accept(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
		})
	}
	good := newProvider(t, static(accessKeyID, secretKey, ""))
	invalid := []string{
		" ", " us-east-1", "us-east-1 ", "us east 1", "us-east-1\n", "\tus-east-1", "us-east-1\x00", "us\r\neast",
		"us-east-1/bedrock", "us-east-1&x=y", "us-east-1?x", "us-east-1#", "us.east.1", "us_east_1", "us-east-1,us-west-2",
		"US-EAST-1", "us-East-1", "-us-east-1", "us-east-1-", "us--east-1", "-", "--",
		"us-éast-1", "us-east-１", "us\u2010east\u20101", "\xff\xfe", "%75s-east-1", "aws-global*",
		strings.Repeat("a", 64), strings.Repeat("us-", 100000),
	}
	for _, region := range invalid {
		t.Run(fmt.Sprintf("%.30q", region), func(t *testing.T) {
			source := awstest.NewSource(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey}, nil
			})
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source))
			if token != "" {
				t.Errorf("got %q", token)
			}
			other, otherErr := good.ForRegion(region)
			if other != nil {
				t.Error("ForRegion returned a Provider")
			}
			for function, err := range map[string]error{"ProvideToken": err, "ForRegion": otherErr} {
				if !errors.Is(err, bedrocktoken.ErrRegion) {
					t.Fatalf("%s: error %v, want ErrRegion", function, err)
				}
				if shown := fmt.Sprintf("%.20q", region); !strings.Contains(err.Error(), shown[:len(shown)-1]) || len(err.Error()) > 1000 {
					t.Errorf("%s: the error does not show the value: %v", function, err)
				}
			}
			if n := source.Calls(); n != 0 {
				t.Errorf("credentials were retrieved %d times", n)
			}
		})
	}
}

// The region is that of WithRegion, else of AWS_REGION, of AWS_DEFAULT_REGION or of
// the profile. Tokens are signed for it, and Region returns it.
func TestRegionPrecedence(t *testing.T) {
	awstest.WriteConfig(t, `
[default]
region = from-default-profile
[profile team]
region = from-team-profile
aws_access_key_id = team
aws_secret_access_key = secret
[profile mfa]
region = from-mfa-profile
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
`)
	tests := map[string]struct {
		env  map[string]string
		opts []bedrocktoken.Option
		want string
	}{
		"default profile":     {nil, nil, "from-default-profile"},
		"AWS_PROFILE":         {map[string]string{"AWS_PROFILE": "team"}, nil, "from-team-profile"},
		"WithProfile":         {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-team-profile"},
		"role is not assumed": {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("mfa")}, "from-mfa-profile"},
		"empty WithProfile":   {nil, []bedrocktoken.Option{bedrocktoken.WithProfile("")}, "from-default-profile"},
		"AWS_DEFAULT_REGION":  {map[string]string{"AWS_DEFAULT_REGION": "from-default"}, nil, "from-default"},
		"AWS_REGION":          {map[string]string{"AWS_DEFAULT_REGION": "from-default", "AWS_REGION": "from-env"}, nil, "from-env"},
		"env before profile":  {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithProfile("team")}, "from-env"},
		"WithRegion":          {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("given")}, "given"},
		"empty WithRegion":    {map[string]string{"AWS_REGION": "from-env"}, []bedrocktoken.Option{bedrocktoken.WithRegion("")}, "from-env"},
		"the last counts":     {nil, []bedrocktoken.Option{bedrocktoken.WithRegion("one"), nil, bedrocktoken.WithRegion("two")}, "two"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			opts := append(test.opts, bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")))
			provider, err := bedrocktoken.NewProvider(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			acceptNext(t, provider, test.want, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
			if got := provider.Region(); got != test.want {
				t.Errorf("Region returns %q, want %q", got, test.want)
			}
		})
	}

	failures := map[string]struct {
		config string
		env    map[string]string
		opts   []bedrocktoken.Option
		says   []string
		not    string
		want   error // by default ErrRegion
	}{
		"none":                         {says: []string{"WithRegion", "AWS_REGION", "AWS_DEFAULT_REGION", "profile"}},
		"bad AWS_REGION":               {env: map[string]string{"AWS_REGION": "US East"}, says: []string{`"US East"`}},
		"bad region of profile":        {config: "[default]\nregion = us_east_1\n", says: []string{`"us_east_1"`}},
		"profile that is not there":    {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_PROFILE": "nobody"}, says: []string{"nobody"}},
		"unreadable AWS_CA_BUNDLE":     {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"/does/not/exist"}},
		"AWS_REGION, no such profile":  {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_REGION": region, "AWS_PROFILE": "nobody"}, says: []string{"cannot load the AWS config", "nobody"}, not: "invalid region"},
		"AWS_REGION, no AWS_CA_BUNDLE": {want: bedrocktoken.ErrCredentials, env: map[string]string{"AWS_REGION": region, "AWS_CA_BUNDLE": "/does/not/exist"}, says: []string{"cannot load the AWS config", "/does/not/exist"}, not: "invalid region"},
		"good environment, bad option": {env: map[string]string{"AWS_REGION": "us-east-1"}, opts: []bedrocktoken.Option{bedrocktoken.WithRegion("x y")}, says: []string{`"x y"`}},
	}
	for name, test := range failures {
		t.Run(name, func(t *testing.T) {
			awstest.WriteConfig(t, test.config)
			awstest.Set(t, test.env)
			opts := append(test.opts, bedrocktoken.WithCredentialsProvider(static(accessKeyID, secretKey, "")))
			token, err := bedrocktoken.ProvideToken(t.Context(), opts...)
			if want := cmp.Or(test.want, bedrocktoken.ErrRegion); !errors.Is(err, want) || token != "" {
				t.Fatalf("got %q and error %v, want %v", token, err, want)
			}
			if missing := new(config.SharedConfigProfileNotExistError); name == "profile that is not there" && !errors.As(err, missing) {
				t.Errorf("error %v hides its cause", err)
			}
			for _, part := range test.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if test.not != "" && strings.Contains(err.Error(), test.not) {
				t.Errorf("error %q says %q", err, test.not)
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
aws_session_token = session
[profile half]
aws_access_key_id = half
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/x
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/x
[profile process]
credential_process = /does/not/exist
`)
	env := map[string]string{"AWS_ACCESS_KEY_ID": "from-env", "AWS_SECRET_ACCESS_KEY": "secret"}
	given := bedrocktoken.WithCredentialsProvider(static("given", "secret", ""))
	tests := map[string]struct {
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
		"nil option":              {env, []bedrocktoken.Option{nil}, "from-env"},
		"half in the environment": {map[string]string{"AWS_ACCESS_KEY_ID": "half"}, nil, "from-default-profile"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			token, err := bedrocktoken.ProvideToken(t.Context(), append(test.opts, bedrocktoken.WithRegion(region))...)
			if err != nil {
				t.Fatal(err)
			}
			session := map[string]string{"from-team-profile": "session"}[test.want]
			accept(t, token, region, aws.Credentials{AccessKeyID: test.want, SecretAccessKey: "secret", SessionToken: session})
		})
	}

	failures := map[string]struct{ profile, says string }{
		"profile that is not there": {"nobody", "nobody"},
		"half a profile":            {"half", ""},
		"MFA":                       {"mfa", "MFA"},
		"failing process":           {"process", "process"},
	}
	for name, test := range failures {
		t.Run(name, func(t *testing.T) {
			token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(test.profile))
			if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
				t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
	// A provider that cannot be called is a mistake, for which the default chain
	// would be another identity.
	var (
		nilPointer *credentials.StaticCredentialsProvider
		nilCache   *aws.CredentialsCache
		nilMap     mapProvider
	)
	for name, provider := range map[string]aws.CredentialsProvider{
		"nil pointer":          nilPointer,
		"nil cache":            nilCache,
		"nil func":             aws.CredentialsProviderFunc(nil),
		"nil map":              nilMap,
		"empty cache":          new(aws.CredentialsCache),
		"cache around nothing": aws.NewCredentialsCache(nil),
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, env)
			for how, opts := range map[string][]bedrocktoken.Option{
				"given":              {bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(provider)},
				"given without more": {bedrocktoken.WithCredentialsProvider(provider)},
			} {
				made, err := bedrocktoken.NewProvider(t.Context(), opts...)
				if !errors.Is(err, bedrocktoken.ErrCredentials) || made != nil {
					t.Errorf("%s: got %v and error %v, want ErrCredentials", how, made, err)
				}
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		awstest.WriteConfig(t, "")
		token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region))
		if !errors.Is(err, bedrocktoken.ErrCredentials) || token != "" {
			t.Fatalf("got %q and error %v, want ErrCredentials", token, err)
		}
	})
}

type mapProvider map[string]string

func (mapProvider) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("called")
}
