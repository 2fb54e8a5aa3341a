//! Which nodes may share a database.

use super::{Cluster, publish};
use crate::common::wait_for;

#[test]
fn nodes_that_start_at_once_on_an_empty_database_make_it_once() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = cluster.nodes::<4>();
    nodes.iter().enumerate().for_each(|(n, node)| drop(publish(node, n as u64)));
    for node in &nodes {
        wait_for("readyz", || (node.get("/readyz").status == 200).then_some(()));
    }
}

#[test]
fn a_node_of_another_schema_is_refused() {
    let Some(cluster) = Cluster::new() else { return };
    let node = cluster.node();
    publish(&node, 1);
    cluster.sql("UPDATE stepcast_cluster SET version = version + 1");
    let (status, said) = cluster.setup().launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("version"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_database_that_can_not_be_reached_is_named_without_its_password() {
    let Some(cluster) = Cluster::new() else { return };
    let url = "postgres://ann:s3cret@127.0.0.1:1/nowhere";
    let (status, said) = cluster.setup_at(url).launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("panicked"), "{said}");
}

/// As the recipe says: a user with a schema of its own, in a database that has other tables, and an application that may
/// publish and nothing else.
#[test]
fn a_schema_of_its_own_in_an_applications_database_is_enough() {
    let Some(cluster) = Cluster::new() else { return };
    let name = cluster.url.rsplit_once('/').expect("a path").1;
    let (owner, shop) = (format!("owner_{name}"), format!("shop_{name}"));
    for sql in [
        "CREATE TABLE orders (n int)".to_owned(),
        format!("CREATE USER {owner}"),
        format!("CREATE USER {shop}"),
        format!("CREATE SCHEMA AUTHORIZATION {owner}"),
    ] {
        cluster.sql(&sql);
    }
    let as_user = |user: &str| cluster.url.replace("postgres@", &format!("{user}@"));
    let node = cluster.setup_at(&as_user(&owner)).start();
    let mut stream = node.stream(super::STREAM);
    let call = format!("SELECT {owner}.stepcast_publish('p', 'note', '{{\"n\": 1}}')");
    cluster.engine.try_sql(&as_user(&shop), &call).expect_err("not everyone may");
    cluster.sql(&format!("GRANT USAGE ON SCHEMA {owner} TO {shop}"));
    cluster.sql(&format!("GRANT EXECUTE ON FUNCTION {owner}.stepcast_publish(text, text, text) TO {shop}"));
    cluster.engine.sql(&as_user(&shop), &call);
    assert_eq!(super::numbers(&stream.take(2)), [1]);
}
