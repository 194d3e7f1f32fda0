// Command bedrock-token prints a short-term Amazon Bedrock API key (a token) made
// from your AWS credentials, or checks whether Bedrock accepts one. Run it with -h
// for its flags.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/aws/smithy-go/logging"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/buildinfo"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/transport"
)

const usage = `Usage: bedrock-token [flags]

Prints a short-term Amazon Bedrock API key (a token) made from your AWS credentials.

  AWS_BEARER_TOKEN_BEDROCK=$(bedrock-token) && export AWS_BEARER_TOKEN_BEDROCK
  bedrock-token -region us-east-1 -profile team -expiry 1h
  bedrock-token -json
  bedrock-token -check -region us-east-1

The exit status is 0 on success, 1 if no token could be made or an endpoint did not
accept it, and 2 for wrong usage.

Flags:
`

// Exit statuses.
const (
	success    = 0
	failure    = 1
	wrongUsage = 2
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (status int) {
	flags := flag.NewFlagSet("bedrock-token", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said below, in two lines
	region := flags.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	profile := flags.String("profile", "", "`profile` of the shared config files; default: AWS_PROFILE")
	expiry := flags.Duration("expiry", 12*time.Hour, "how long the token is valid, from 1s to 12h, such as 30m")
	asJSON := flags.Bool("json", false, "print token, expiration and region as JSON")
	doCheck := flags.Bool("check", false, "check a token against Bedrock's endpoints instead of printing it")
	version := flags.Bool("version", false, "print the version")
	fail := func(status int, text any) int {
		fmt.Fprintln(stderr, "bedrock-token:", text)
		return status
	}
	printLine := func(line string) int {
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return fail(failure, err)
		}
		return success
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return success
	case err != nil:
		return fail(wrongUsage, explain.Error(err, "")+"\nSee bedrock-token -h.")
	case flags.NArg() > 0:
		return fail(wrongUsage, fmt.Sprintf("unexpected argument %.80q\nAll settings are flags: see bedrock-token -h.", flags.Arg(0)))
	case *doCheck && *asJSON:
		return fail(wrongUsage, "-check and -json exclude each other\nGive one of them: see bedrock-token -h.")
	case *version:
		return printLine(buildinfo.Version("bedrock-token"))
	}

	var (
		token bearer.Token
		base  *http.Transport
	)
	provider, err := newProvider(ctx, *region, *profile, *expiry, stdin, stderr)
	if err == nil {
		token, err = provider.RetrieveBearerToken(ctx)
	}
	if err == nil && *doCheck {
		base, err = transport.New(ctx, *profile)
	}
	switch {
	case errors.Is(err, bedrocktoken.ErrExpiry), errors.Is(err, bedrocktoken.ErrRegion) && *region != "":
		return fail(wrongUsage, explain.Error(err, *profile))
	case err != nil:
		return fail(failure, explain.Error(err, *profile))
	case *doCheck:
		ok, err := check(ctx, stdout, provider, token, *profile, base)
		if err != nil {
			return fail(failure, err)
		}
		if !ok {
			return failure
		}
		return success
	case !*asJSON:
		return printLine(token.Value)
	}
	text, err := json.Marshal(struct {
		Token      string    `json:"token"`
		Expiration time.Time `json:"expiration"`
		Region     string    `json:"region"`
	}{token.Value, token.Expires, provider.Region()})
	if err != nil {
		return fail(failure, err)
	}
	return printLine(string(text))
}

// newProvider returns a provider that asks for an MFA code if the profile's role
// wants one, which the library cannot.
func newProvider(ctx context.Context, region, profile string, expiry time.Duration, stdin io.Reader, stderr io.Writer) (*bedrocktoken.Provider, error) {
	opts := []bedrocktoken.Option{
		bedrocktoken.WithRegion(region), bedrocktoken.WithProfile(profile), bedrocktoken.WithExpiry(expiry),
	}
	provider, err := bedrocktoken.NewProvider(ctx, opts...)
	if !errors.As(err, new(config.AssumeRoleTokenProviderNotSetError)) {
		return provider, err
	}
	cfg, err := configWithMFA(ctx, region, profile, stdin, stderr)
	if err != nil {
		return nil, err
	}
	var (
		creds    aws.Credentials
		credsErr error
	)
	source := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, credsErr })
	provider, err = bedrocktoken.NewProvider(ctx, append(opts,
		bedrocktoken.WithRegion(cmp.Or(region, cfg.Region)), bedrocktoken.WithCredentialsProvider(source))...)
	if err != nil {
		return nil, err
	}
	creds, credsErr = cfg.Credentials.Retrieve(ctx) // here, since a Provider gives a source a minute
	return provider, nil
}

// configWithMFA loads a config whose roles ask for MFA codes. Requests are
// limited as the library limits them; typing a code is not. The credentials come
// from the region of the environment or the profile: STS of another one may be out
// of reach. They live for an hour unless the profile says otherwise, as the
// library's.
func configWithMFA(ctx context.Context, region, profile string, stdin io.Reader, stderr io.Writer) (aws.Config, error) {
	terminal := bufio.NewReader(stdin) // one for all questions: it reads ahead
	client := awshttp.NewBuildableClient().WithTimeout(10 * time.Second)
	load := func(duration time.Duration) (aws.Config, error) {
		return config.LoadDefaultConfig(ctx,
			config.WithDefaultRegion(region),
			config.WithSharedConfigProfile(profile),
			config.WithLogger(logging.Nop{}),
			config.WithHTTPClient(client),
			config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
			config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
				o.Duration = cmp.Or(o.Duration, duration)
				o.TokenProvider = func() (string, error) { return askMFACode(aws.ToString(o.SerialNumber), terminal, stderr) }
			}),
		)
	}
	cfg, err := load(time.Hour)
	for _, source := range cfg.ConfigSources {
		shared, _ := source.(config.SharedConfig)
		if given := shared.RoleDurationSeconds; given != nil && *given < 16*time.Minute {
			return load(*given) // the SDK drops it, for its default of 15 minutes
		}
	}
	return cfg, err
}

var errNoCode = errors.New("no MFA code was given")

func askMFACode(serialNumber string, terminal *bufio.Reader, stderr io.Writer) (string, error) {
	fmt.Fprintf(stderr, "MFA code for %s: ", serialNumber)
	line, _ := terminal.ReadString('\n') // an error leaves the line empty, or without its end
	code := strings.TrimSpace(line)
	if code == "" {
		fmt.Fprintln(stderr) // to end the line of the prompt
		return "", errNoCode
	}
	return code, nil
}
