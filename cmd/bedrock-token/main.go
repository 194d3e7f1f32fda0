// Command bedrock-token prints a short-term Amazon Bedrock API key made from the
// AWS credentials at hand. Run it with -h for its flags.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/aws/smithy-go/logging"
	"github.com/bedrocktoken/bedrocktoken"
)

const usage = `Usage: bedrock-token [flags]

Prints a short-term Amazon Bedrock API key made from the AWS credentials at hand.

  export AWS_BEARER_TOKEN_BEDROCK=$(bedrock-token)
  bedrock-token -region us-east-1 -profile team -expiry 1h
  bedrock-token -json

Flags:
`

// Exit statuses.
const (
	success = iota
	noToken
	wrongUsage
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (status int) {
	flags := flag.NewFlagSet("bedrock-token", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors in two lines are said below
	region := flags.String("region", "", "`region` that the token is for; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	profile := flags.String("profile", "", "`profile` of the shared config files; default: AWS_PROFILE")
	expiry := flags.Duration("expiry", 12*time.Hour, "how long the token lives, such as 30m: 1s to 12h")
	asJSON := flags.Bool("json", false, "print token, expiration and region as JSON")
	version := flags.Bool("version", false, "print the version")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stderr, usage)
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		return success
	case err != nil:
		fmt.Fprintf(stderr, "bedrock-token: %s\nSee bedrock-token -h.\n", oneLine(err.Error()))
		return wrongUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "bedrock-token: unexpected argument %q\nAll settings are flags: see bedrock-token -h.\n", flags.Arg(0))
		return wrongUsage
	}

	if *version {
		return printLine(stdout, stderr, buildVersion())
	}
	token, tokenRegion, err := makeToken(ctx, *region, *profile, *expiry, stdin, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "bedrock-token:", explain(err, tokenRegion))
		if errors.Is(err, bedrocktoken.ErrExpiry) || errors.Is(err, bedrocktoken.ErrRegion) && *region != "" {
			return wrongUsage
		}
		return noToken
	}
	if !*asJSON {
		return printLine(stdout, stderr, token.Value)
	}
	text, err := json.Marshal(struct {
		Token      string    `json:"token"`
		Expiration time.Time `json:"expiration"`
		Region     string    `json:"region"`
	}{token.Value, token.Expires, tokenRegion})
	if err != nil {
		fmt.Fprintln(stderr, "bedrock-token:", err)
		return noToken
	}
	return printLine(stdout, stderr, string(text))
}

func printLine(stdout, stderr io.Writer, line string) (status int) {
	if _, err := fmt.Fprintln(stdout, line); err != nil {
		fmt.Fprintln(stderr, "bedrock-token:", err)
		return noToken
	}
	return success
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "bedrock-token (unknown version)"
	}
	return fmt.Sprintf("bedrock-token %s %s", info.Main.Version, info.GoVersion)
}

// makeToken loads the config itself, and not through the library, to ask for an
// MFA code where the profile wants one.
func makeToken(ctx context.Context, region, profile string, expiry time.Duration, stdin io.Reader, stderr io.Writer) (bearer.Token, string, error) {
	terminal := bufio.NewReader(stdin) // one for all questions: it reads ahead
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(region),
		config.WithSharedConfigProfile(profile),
		config.WithLogger(logging.Nop{}),
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			o.TokenProvider = func() (string, error) { return askMFACode(aws.ToString(o.SerialNumber), terminal, stderr) }
		}),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) {
			*o = aws.CredentialsCacheOptions{} // a window would hide when the credentials end
		}),
	)
	if err != nil {
		return bearer.Token{}, "", err
	}
	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithConfig(cfg), bedrocktoken.WithExpiry(expiry))
	if err != nil {
		return bearer.Token{}, cfg.Region, err
	}
	token, err := provider.RetrieveBearerToken(ctx)
	return token, cfg.Region, err
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

// explain says what was wrong and what to do about it, in two lines at most. The
// SDK wraps causes many times over; the innermost is what a person can act on.
func explain(err error, region string) string {
	var (
		noProfile   config.SharedConfigProfileNotExistError
		noSSO       *ssocreds.InvalidTokenError
		operation   = new(smithy.OperationError) // the innermost, if any
		refusal     smithy.APIError
		unreachable *url.Error
	)
	for cause := err; errors.As(cause, &operation); {
		cause = operation.Err
	}
	switch {
	case errors.Is(err, bedrocktoken.ErrRegion) && region == "":
		return "no region is set\nGive -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."
	case errors.Is(err, bedrocktoken.ErrRegion):
		return fmt.Sprintf("%.80q is not the name of a region\nGive -region one such as us-east-1, or see AWS_REGION, AWS_DEFAULT_REGION and the profile.", region)
	case errors.Is(err, errNoCode):
		return errNoCode.Error() + "\nRun it in a terminal and type the code."
	case errors.As(err, &noProfile):
		return fmt.Sprintf("there is no profile %q\nGive -profile or AWS_PROFILE the name of one in the shared config files (aws configure list-profiles).", noProfile.Profile)
	case errors.As(err, &noSSO), strings.Contains(err.Error(), "cached SSO token"):
		return "the SSO session has expired, or there is none\nSign in with aws sso login, for the same profile."
	case strings.Contains(err.Error(), "login token"):
		return "the login session has expired, or there is none\nSign in with aws login, for the same profile."
	case operation.Service() == "ec2imds" && (os.Getenv("AWS_ACCESS_KEY_ID") == "") != (os.Getenv("AWS_SECRET_ACCESS_KEY") == ""):
		return "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set\nSet the other one too, or name a profile with -profile."
	case operation.Service() == "ec2imds":
		return "no AWS credentials were found\nSet AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, sign in with aws login or aws sso login, or name a profile with -profile."
	case operation.Service() != "" && errors.As(err, &refusal):
		return fmt.Sprintf("%s refused %s: %s: %s", operation.Service(), operation.Operation(), refusal.ErrorCode(), oneLine(refusal.ErrorMessage()))
	case operation.Service() != "" && errors.As(err, &unreachable):
		return fmt.Sprintf("%s cannot be reached: %s", operation.Service(), oneLine(unreachable.Error()))
	}
	return strings.TrimPrefix(oneLine(err.Error()), "bedrocktoken: ")
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
