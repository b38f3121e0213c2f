//! What wins, and what is blamed.

use clap::Arg;

use super::*;

fn command() -> Command {
    Command::new("haversack").subcommand(Command::new("sub").arg(Arg::new("page").long("page-size").num_args(1)))
}

fn page(config: &Config, args: &[&str]) -> Option<String> {
    let matches = config.apply(command()).get_matches_from([&["haversack", "sub"], args].concat());
    matches.subcommand().unwrap().1.get_one::<String>("page").cloned()
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let mut config = Config::default();
    assert_eq!(page(&config, &[]), None);
    config.file = toml::from_str("[sub]\npage-size = 1").unwrap();
    assert_eq!(page(&config, &[]).as_deref(), Some("1"));
    config.environment = Environment::from_iter([("HAVERSACK_PAGE_SIZE".to_owned(), "2".into())]);
    assert_eq!(page(&config, &[]).as_deref(), Some("2"));
    assert_eq!(page(&config, &["--page-size", "3"]).as_deref(), Some("3"));
}

#[test]
fn unknown_keys_of_the_file_are_named() {
    for (file, key) in [
        ("[sub]\npage-size = 1", None),
        ("[sub]\npagesize = 1", Some("sub.pagesize")),
        ("[sup]\npage-size = 1", Some("sup")),
        ("page-size = 1", Some("page-size")),
    ] {
        assert_eq!(unknown_key(&command(), &toml::from_str(file).unwrap(), "").as_deref(), key, "{file}");
    }
}

#[test]
fn a_default_from_outside_satisfies_an_option_that_is_required() {
    let command = || {
        let url = Arg::new("url").long("url").num_args(1).required(true);
        Command::new("haversack").subcommand(Command::new("sub").arg(url))
    };
    let mut config = Config::default();
    assert!(config.apply(command()).try_get_matches_from(["haversack", "sub"]).is_err());
    config.environment = Environment::from_iter([("HAVERSACK_URL".to_owned(), "https://h".into())]);
    let matches = config.apply(command()).try_get_matches_from(["haversack", "sub"]).unwrap();
    assert_eq!(matches.subcommand().unwrap().1.get_one::<String>("url").unwrap(), "https://h");
}

#[test]
fn a_value_is_blamed_on_where_it_stands() {
    let command = || {
        let page = Arg::new("page").long("page-size").num_args(1).value_parser(clap::value_parser!(u32));
        Command::new("haversack").subcommand(Command::new("sub").arg(page))
    };
    let blamed = |config: &Config, args: &[&str]| {
        let args: Vec<OsString> = ["haversack", "sub"].iter().chain(args).map(OsString::from).collect();
        let error = config.apply(command()).try_get_matches_from(&args).unwrap_err();
        config.blamed(&error, &args).map(|error| error.to_string())
    };
    let mut config = Config { path: Some(FILE.into()), ..Config::default() };
    config.file = toml::from_str("[sub]\npage-size = 'x'").unwrap();
    let reason = "`x` is not a valid value for --page-size: invalid digit found in string";
    assert_eq!(blamed(&config, &[]), Some(format!("haversack.toml: sub.page-size: {reason}")));
    config.environment = Environment::from_iter([("HAVERSACK_PAGE_SIZE".to_owned(), "x".into())]);
    assert_eq!(blamed(&config, &[]), Some(format!("HAVERSACK_PAGE_SIZE: {reason}")));
    assert_eq!(blamed(&config, &["--page-size", "x"]), None);
}
